"""What QEMU asks of a TPM in swtpm's protocol, in the orders in which it asks."""

import hashlib
import json
import os
import struct
import subprocess
import time
import unittest

import front as f
from front import FAIL, SUCCESS

ONE = b"\x11" * 32
FAILED_SELF_TEST = 0x1c  # TPM 1.2's


class Protocol(f.FrontTest):
    def test_start_of_a_2_0_machine(self):
        front = self.front(self.create("web1", "--tpm", "2.0"))
        control = self.control(front)
        data = control.data()
        # QEMU's probe comes before INIT and looks at the tag alone.
        self.assertEqual(data.transmit(f.READ_CLOCK).hex(), "80010000000a00000101")
        self.assertEqual(control.words(f.GET_CAPABILITY, 2), (SUCCESS, 0x17fff))
        self.assertEqual(control.established()[0], f.BAD_ORDINAL)
        self.assertEqual(control.ask(f.STOP), SUCCESS)
        self.assertEqual(control.words(f.SET_BUFFERSIZE, 4, struct.pack(">I", 0)), (SUCCESS, 4096, 2808, 4096))
        self.assertEqual(control.ask(f.STOP), SUCCESS)
        self.assertEqual(control.words(f.SET_BUFFERSIZE, 4, struct.pack(">I", 0xf80)),
                         (SUCCESS, 0xf80, 2808, 4096))
        self.assertEqual(control.init(), SUCCESS, front.text())
        self.assertEqual(control.words(f.SET_BUFFERSIZE, 4, struct.pack(">I", 4096))[0], f.BAD_ORDINAL)
        self.assertEqual(control.established(), (SUCCESS, 0))
        self.assertEqual(control.locality(0), SUCCESS)
        # The firmware gives Startup; nobody has given it before.
        self.assertEqual(data.code(f.GET_RANDOM), 0x100)
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(data.code(f.GET_RANDOM), 0)
        self.assertEqual(control.words(f.GET_CONFIG, 2), (SUCCESS, 0))
        self.assertEqual(control.ask(f.SHUTDOWN), SUCCESS)
        self.assertEqual(front.process.wait(f.PATIENCE), 0)

    def test_start_of_a_1_2_machine(self):
        front = self.front(self.create("old", "--tpm", "1.2"))
        control = self.control(front)
        data = control.data()
        self.assertEqual(data.transmit(f.READ_CLOCK)[:2].hex(), "00c4")
        self.assertEqual(data.transmit(f.GET_TICKS_12).hex(), "00c40000000a00000009")
        self.assertEqual(control.init(), SUCCESS, front.text())
        self.assertEqual(data.code(f.STARTUP_12), 0)
        self.assertEqual(data.code(f.EXTEND_12), 0)
        extended = data.transmit(f.PCR_READ_12)
        self.assertNotEqual(extended[-20:], bytes(20))
        self.assertEqual(control.init(), SUCCESS)
        self.assertEqual(data.code(f.STARTUP_12), 0)
        self.assertEqual(data.transmit(f.PCR_READ_12)[-20:], bytes(20))

    def test_first_init_does_not_wait_for_a_1_2(self):
        """Its self test makes an RSA key. A new TPM is made before the answer; so is what follows a reset."""
        name = self.create("old", "--tpm", "1.2")
        self.assertGreater(*self.times_of_start(self.front(name, "first")))
        self.fronts.pop().kill()
        front = self.front(name, "again")
        self.assertLess(*self.times_of_start(front))
        self.assertGreater(*self.times_of_start(front))

    def times_of_start(self, front):
        """Until INIT is answered, and from there until Startup is."""
        control = self.control(front)
        data = control.data()
        begin = time.monotonic()
        self.assertEqual(control.init(), SUCCESS, front.text())
        ready = time.monotonic()
        self.assertEqual(data.code(f.STARTUP_12), 0)
        control.close()
        return ready - begin, time.monotonic() - ready

    def test_1_2_that_libtpms_does_not_take(self):
        """INIT is answered before; then the TPM has failed, the next INIT says so, and what is stored stays."""
        junk = self.directory / "junk"
        junk.mkdir()
        state = struct.pack(">HH", 1, 0x22) + b"\x5a" * 600
        (junk / "tpm-00.permall").write_bytes(
            struct.pack(">BBHHIHI", 2, 1, 10, 0, 16 + len(state), 1, len(state)) + state)
        self.ctl("import-swtpm", junk, "--name", "junk")
        front = self.front("junk")
        control = self.control(front)
        data = control.data()
        self.assertEqual(control.init(), SUCCESS, front.text())
        self.assertEqual(data.code(f.STARTUP_12), FAILED_SELF_TEST)
        front.says("starting the TPM from its state")
        self.assertEqual(control.ask(f.STOP), SUCCESS)
        self.assertNotEqual(control.init(), SUCCESS)
        self.assertEqual(data.code(f.STARTUP_12), FAIL)
        self.assertEqual(self.json("show", "junk")["sequence"], 1)

    def test_reset_is_a_power_cycle(self):
        front = self.front(self.create("web1", "--tpm", "2.0"))
        control, data = self.machine(front)
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(data.code(f.nv_define(8)), 0)
        self.assertEqual(data.code(f.nv_write(b"lasting!")), 0)
        self.assertEqual(data.code(f.pcr_extend(16, ONE)), 0)
        expected = hashlib.sha256(bytes(32) + ONE).digest()
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), expected)
        engine = front.engines()
        for _ in range(2):  # as QEMU's system_reset does
            self.assertEqual(control.ask(f.STOP), SUCCESS)
            self.assertEqual(control.words(f.SET_BUFFERSIZE, 4, struct.pack(">I", 4096))[0], SUCCESS)
            self.assertEqual(control.init(), SUCCESS)
        self.assertNotEqual(front.engines(), engine)
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), bytes(32))
        self.assertEqual(data.transmit(f.nv_read(8))[16:24], b"lasting!")

    def test_sleep_to_ram_keeps_the_pcrs(self):
        """The guest's own Shutdown(STATE) is not undone by one of ours."""
        _, data = machine = self.machine(self.front(self.create("web1", "--tpm", "2.0")))
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(data.code(f.pcr_extend(0, ONE)), 0)
        before = f.pcr_value(data.transmit(f.pcr_read(0)))
        self.assertEqual(data.code(f.SHUTDOWN_STATE), 0)
        self.assertEqual(machine[0].ask(f.STOP), SUCCESS)
        self.assertEqual(machine[0].init(), SUCCESS)
        self.assertEqual(data.code(f.STARTUP_STATE), 0)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(0))), before)

    def test_what_was_acknowledged_is_there_after_a_kill(self):
        name = self.create("web1", "--tpm", "2.0")
        front = self.front(name)
        _, data = self.machine(front)
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(data.code(f.nv_define(8)), 0)
        self.assertEqual(data.code(f.nv_write(b"lasting!")), 0)
        front.kill()
        _, data = self.machine(self.front(name, "again"))
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(data.transmit(f.nv_read(8))[16:24], b"lasting!")

    def test_dynamic_launch_and_established_flag(self):
        control, data = self.machine(self.front(self.create("web1", "--tpm", "2.0")))
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(control.established(), (SUCCESS, 0))
        self.assertEqual(control.hash_sequence(b"a kernel"), (SUCCESS, SUCCESS, SUCCESS))
        self.assertEqual(control.established(), (SUCCESS, 1))
        measured = hashlib.sha256(bytes(32) + hashlib.sha256(b"a kernel").digest()).digest()
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(17))), measured)
        self.assertNotEqual(control.ask(f.RESET_ESTABLISHED, b"\2\0\0\0"), SUCCESS)
        self.assertEqual(control.ask(f.RESET_ESTABLISHED, b"\3\0\0\0"), SUCCESS)
        self.assertEqual(control.established(), (SUCCESS, 0))

    def test_established_flag_outlives_a_kill(self):
        """What a platform order changed is on the disk once it is acknowledged."""
        name = self.create("old", "--tpm", "1.2")
        front = self.front(name)
        control, data = self.machine(front)
        self.assertEqual(data.code(f.STARTUP_12), 0)
        self.assertEqual(control.hash_sequence(b"a kernel"), (SUCCESS, SUCCESS, SUCCESS))
        front.kill()
        control, _ = self.machine(self.front(name, "again"))
        self.assertEqual(control.established(), (SUCCESS, 1))

    def test_localities(self):
        control, data = self.machine(self.front(self.create("web1", "--tpm", "2.0")))
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(control.locality(5), 0x3d)
        # PCR 20 is extended from locality 1 to 3 (PC Client TPM Profile).
        for locality, code in ((0, 0x907), (2, 0), (0, 0x907)):
            self.assertEqual(control.locality(locality), SUCCESS)
            self.assertEqual(data.code(f.pcr_extend(20, ONE)), code, locality)

    def test_cancel_ends_a_long_command(self):
        control, data = self.machine(self.front(self.create("web1", "--tpm", "2.0")))
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(control.ask(f.CANCEL), SUCCESS)  # nothing runs: forgotten
        self.assertEqual(data.code(f.GET_RANDOM), 0)
        for _ in range(40):
            data.send(f.CREATE_RSA)
            self.assertEqual(control.ask(f.CANCEL), SUCCESS)
            code = struct.unpack(">I", data.response()[6:10])[0]
            self.assertIn(code, (0, 0x909, 0x902))
            if code == 0x909:
                break
            self.assertEqual(control.init(), SUCCESS)  # the key takes one of three places
            self.assertEqual(data.code(f.STARTUP), 0)
        else:
            self.fail("forty times, and none was cancelled")
        self.assertEqual(data.code(f.GET_RANDOM), 0)

    def test_no_1_2_command_is_cancelled(self):
        """And nobody is told that it was; its response comes as ever."""
        control = self.control(self.front(self.create("old", "--tpm", "1.2")))
        data = control.data()
        self.assertEqual(control.ask(f.CANCEL), f.BAD_ORDINAL)
        self.assertEqual(control.init(), SUCCESS)
        self.assertEqual(data.code(f.STARTUP_12), 0)
        self.assertEqual(control.ask(f.CANCEL), FAIL)
        data.send(f.SELF_TEST_12)
        self.assertEqual(control.ask(f.CANCEL), FAIL)
        self.assertEqual(struct.unpack(">I", data.response()[6:10])[0], 0)
        self.assertEqual(data.code(f.GET_TICKS_12), 0)

    def test_info(self):
        control = self.control(self.front(self.create("web1", "--tpm", "2.0")))
        result, text = control.info(1)
        self.assertEqual(result, SUCCESS)
        self.assertEqual(json.loads(text)["TPMSpecification"]["family"], "2.0")
        self.assertEqual(control.init(), SUCCESS)
        self.assertEqual(control.info(1)[1], text)

    def test_engine_that_dies(self):
        front = self.front(self.create("web1", "--tpm", "2.0"))
        control, data = self.machine(front)
        self.assertEqual(data.code(f.STARTUP), 0)
        os.kill(front.engines()[0], 9)
        with self.assertRaises((EOFError, ConnectionError)):
            data.transmit(f.GET_RANDOM)
        self.assertEqual(control.words(f.GET_CAPABILITY, 2)[0], SUCCESS)
        data = control.data()
        # In failure mode until the machine's next power cycle.
        self.assertEqual(data.code(f.GET_RANDOM), 0x101)
        self.assertEqual(control.init(), SUCCESS)
        self.assertEqual(data.code(f.STARTUP), 0)

    def test_manager_that_is_restarted(self):
        front = self.front(self.create("web1", "--tpm", "2.0"))
        _, data = self.machine(front)
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(data.code(f.nv_define(8)), 0)
        self.assertEqual(self.manager.stop(), 0)
        self.assertEqual(data.code(f.GET_RANDOM), 0)
        self.assertEqual(data.code(f.nv_write(b"too soon")), 0x923)
        self.manager.start()
        f.rig.eventually(lambda: "vtpmmgrd is back" in front.text())
        f.rig.eventually(lambda: data.code(f.nv_write(b"in time!")) == 0)
        self.assertEqual(data.transmit(f.nv_read(8))[16:24], b"in time!")

    def test_one_holder(self):
        name = self.create("web1", "--tpm", "2.0")
        control, data = self.machine(self.front(name))
        second = self.front(name, "second")
        other = self.control(second)
        begin = time.monotonic()
        self.assertEqual(other.init(), FAIL)
        self.assertLess(time.monotonic() - begin, 10)
        self.assertIn("in use", second.text())
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(control.ask(f.SHUTDOWN), SUCCESS)
        self.assertEqual(other.init(), SUCCESS)

    def test_a_front_that_stays(self):
        front = self.front(self.create("web1", "--tpm", "2.0"), "web1", "--stay")
        for _ in range(3):
            control, data = self.machine(front)
            self.assertEqual(data.code(f.STARTUP), 0)
            self.assertEqual(control.ask(f.SHUTDOWN), SUCCESS)
            control.close()
        self.assertEqual(front.end(), 0)
        self.assertFalse(front.path.exists())


class Ioctl(f.FrontTest):
    """Debian's swtpm_ioctl, which was written for the other side."""

    def ioctl(self, front, *options):
        run = subprocess.run(["swtpm_ioctl", "--unix", front.path, *options], capture_output=True, text=True,
                             timeout=f.PATIENCE, check=False)
        self.assertEqual(run.returncode, 0, f"{options}: {run.stdout}{run.stderr}{front.text()}")
        return run.stdout

    def test_all_it_can_ask(self):
        data_path = self.directory / "data"
        front = self.front(self.create("web1", "--tpm", "2.0"), "web1", "--data", data_path)
        self.assertIn("0x17fff", self.ioctl(front, "-c"))
        self.ioctl(front, "-i")
        self.assertIn("0", self.ioctl(front, "-e"))
        self.ioctl(front, "-l", "1")
        self.ioctl(front, "-h", "hello")
        self.assertIn("1", self.ioctl(front, "-e"))
        self.ioctl(front, "-r", "3")
        self.ioctl(front, "-l", "0")
        self.ioctl(front, "-C")
        self.ioctl(front, "-v")
        self.assertIn("2.0", self.ioctl(front, "--info", "1"))
        for _ in range(3):  # each with a connection of its own, on the data socket
            with f.Peer(data_path) as peer:
                self.assertIn(peer.code(f.STARTUP), (0, 0x100))
                self.assertEqual(peer.code(f.GET_RANDOM), 0)
        self.ioctl(front, "--save", "volatile", self.directory / "blob")
        self.ioctl(front, "--stop")
        self.ioctl(front, "-b", "4096")
        self.ioctl(front, "--load", "volatile", self.directory / "blob")
        self.ioctl(front, "-i")
        with f.Peer(data_path) as peer:
            self.assertEqual(peer.code(f.GET_RANDOM), 0)
        self.ioctl(front, "-s")
        self.assertEqual(front.process.wait(f.PATIENCE), 0)


if __name__ == "__main__":
    unittest.main()
