"""What QEMU asks of a TPM in swtpm's protocol, in the orders in which it asks."""

import hashlib
import json
import os
import struct
import subprocess
import threading
import time
import unittest

import front as f
from front import FAIL, PERMANENT, SAVED, SUCCESS, VOLATILE

ONE = b"\x11" * 32


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


class Blobs(f.FrontTest):
    """State blobs: tickets for what lies in the vault."""

    def running(self, name, label):
        control, data = self.machine(self.front(name, label))
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(data.code(f.pcr_extend(16, ONE)), 0)
        return control, data, f.pcr_value(data.transmit(f.pcr_read(16)))

    def give_away(self, control):
        """As QEMU's source does."""
        permanent = control.state(PERMANENT)
        volatile = control.state(VOLATILE)
        saved = control.state(SAVED)
        self.assertEqual((permanent[0], volatile[0], saved), (SUCCESS, SUCCESS, (f.NO_SUCH_STATE, 0, b"")))
        return permanent[2], volatile[2]

    def take_over(self, control, permanent, volatile):
        """As QEMU's destination does; the result of its INIT."""
        self.assertEqual(control.ask(f.STOP), SUCCESS)
        self.assertEqual(control.set_state(PERMANENT, permanent), SUCCESS)
        self.assertEqual(control.set_state(VOLATILE, volatile), SUCCESS)
        self.assertEqual(control.set_state(SAVED, b""), SUCCESS)
        return control.init(1)

    def test_migration(self):
        name = self.create("web1", "--tpm", "2.0")
        source, data, pcr = self.running(name, "source")
        destination = self.control(self.front(name, "destination"))
        arrived = destination.data()
        blobs = self.give_away(source)
        self.assertEqual(self.take_over(destination, *blobs), SUCCESS)
        self.assertEqual(f.pcr_value(arrived.transmit(f.pcr_read(16))), pcr)
        # The source that goes on all the same finds the instance in other hands.
        self.assertNotEqual(source.ask(f.LOCK_STORAGE, struct.pack(">I", 10)), SUCCESS)
        self.assertEqual(data.code(f.GET_RANDOM), 0x101)
        self.assertEqual(arrived.code(f.GET_RANDOM), 0)
        self.assertEqual(source.ask(f.SHUTDOWN), SUCCESS)
        self.assertEqual(arrived.code(f.GET_RANDOM), 0)

    def test_migration_of_a_1_2(self):
        name = self.create("old", "--tpm", "1.2")
        source, data = self.machine(self.front(name, "source"))
        self.assertEqual(data.code(f.STARTUP_12), 0)
        self.assertEqual(data.code(f.EXTEND_12), 0)
        pcr = data.transmit(f.PCR_READ_12)
        blobs = self.give_away(source)
        destination = self.control(self.front(name, "destination"))
        arrived = destination.data()
        self.assertEqual(self.take_over(destination, *blobs), SUCCESS)
        self.assertEqual(arrived.transmit(f.PCR_READ_12), pcr)

    def test_migration_that_fails(self):
        name = self.create("web1", "--tpm", "2.0")
        source, data, pcr = self.running(name, "source")
        blobs = self.give_away(source)
        self.assertEqual(source.ask(f.LOCK_STORAGE, struct.pack(">I", 300)), SUCCESS)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), pcr)
        # A ticket is of use once.
        self.assertEqual(source.ask(f.SHUTDOWN), SUCCESS)
        late = self.control(self.front(name, "late"))
        self.assertNotEqual(self.take_over(late, *blobs), SUCCESS)
        self.assertEqual(late.init(), SUCCESS)

    def test_a_command_makes_the_source_go_on(self):
        """A QEMU that is older than LOCK_STORAGE resumes without a word."""
        name = self.create("web1", "--tpm", "2.0")
        source, data, pcr = self.running(name, "source")
        self.give_away(source)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), pcr)

    def test_nothing_of_the_state_is_in_a_blob(self):
        name = self.create("web1", "--tpm", "2.0")
        source, data, pcr = self.running(name, "source")
        self.assertEqual(data.code(f.nv_define(8)), 0)
        self.assertEqual(data.code(f.nv_write(b"secretly")), 0)
        for blob in self.give_away(source):
            self.assertLess(len(blob), 64)
            self.assertNotIn(pcr, blob)
            self.assertNotIn(b"secretly", blob)

    def test_blobs_that_are_refused(self):
        name = self.create("web1", "--tpm", "2.0")
        other = self.create("web2", "--tpm", "2.0")
        source, _, _ = self.running(name, "source")
        permanent, volatile = self.give_away(source)
        wrong = self.control(self.front(other, "wrong"))
        self.assertEqual(wrong.set_state(VOLATILE, volatile), FAIL)
        right = self.control(self.front(name, "right"))
        for blob in (b"", b"\2\1" + bytes(400), volatile[:-1], volatile + b"\0", permanent, bytes(512 * 1024)):
            self.assertEqual(right.set_state(VOLATILE, blob), f.BAD_PARAMETER, len(blob))
        # A label that was guessed gives nothing, and takes nothing away.
        forged = volatile[:-1] + bytes([volatile[-1] ^ 1])
        self.assertEqual(right.set_state(VOLATILE, forged), SUCCESS)
        self.assertNotEqual(right.init(), SUCCESS)
        self.assertEqual(self.take_over(right, permanent, volatile), SUCCESS)
        self.assertEqual(right.set_state(VOLATILE, volatile), f.BAD_ORDINAL)  # while it runs

    def test_store_volatile_goes_on_after_a_shutdown(self):
        name = self.create("web1", "--tpm", "2.0")
        control, _, pcr = self.running(name, "web1")
        self.assertEqual(control.ask(f.STORE_VOLATILE), SUCCESS)
        self.assertTrue((self.directory / "web1.sock.volatile").exists())
        self.assertEqual(control.ask(f.SHUTDOWN), SUCCESS)
        control = self.control(self.front(name, "web1"))
        data = control.data()
        self.assertEqual(control.init(1), SUCCESS)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), pcr)
        self.assertFalse((self.directory / "web1.sock.volatile").exists())
        self.assertEqual(control.init(), SUCCESS)
        self.assertEqual(data.code(f.STARTUP), 0)


class Cheats(f.FrontTest):
    """swtpm-study's list of malformed input, and worse. After each the TPM and the control channel answer."""

    def setUp(self):
        super().setUp()
        self.there = self.front(self.create("web1", "--tpm", "2.0"))
        self.peer, self.wire = self.machine(self.there)
        self.assertEqual(self.wire.code(f.STARTUP), 0)

    def well(self):
        self.assertEqual(self.wire.code(f.GET_RANDOM), 0)
        self.assertTrue(self.wire.silent(0.05))
        self.assertEqual(self.peer.words(f.GET_CAPABILITY, 2)[0], SUCCESS)

    def test_commands_of_wrong_size(self):
        right = f.GET_RANDOM
        for size in (0, 1, 9, 10, 11, 13, 0x7fffffff, 0xffffffff, 4097, 8192):
            with self.subTest(size=size):
                self.assertEqual(self.wire.code(right[:2] + struct.pack(">I", size) + right[6:]), 0x142)
                self.well()

    def test_fragments(self):
        for cut in range(1, len(f.GET_RANDOM)):
            self.wire.send(f.GET_RANDOM[:cut])
            time.sleep(0.01)
            self.wire.send(f.GET_RANDOM[cut:])
            self.assertEqual(struct.unpack(">I", self.wire.response()[6:10])[0], 0, cut)
        self.well()

    def test_silence_in_a_command(self):
        for cut in (1, 5, 9, 11):
            self.wire.send(f.GET_RANDOM[:cut])
            self.assertEqual(self.peer.words(f.GET_CAPABILITY, 2)[0], SUCCESS)
            self.assertEqual(struct.unpack(">I", self.wire.response()[6:10])[0], 0x142, cut)
            self.well()

    def test_two_commands_in_one_write(self):
        self.assertEqual(self.wire.code(f.GET_RANDOM * 2), 0x142)
        self.well()

    def test_8_kib(self):
        for size in (4096, 4097, 8192, 60000):
            command = struct.pack(">HII", 0x8001, size, 0x17b) + bytes(size - 10)
            self.assertIn(self.wire.code(command), (0x142, 0x95, 0x1c4, 0x15a), size)
            time.sleep(0.05)
            self.well()

    def test_data_peer_that_goes(self):
        for cut in range(len(f.GET_RANDOM) + 1):
            self.wire.send(f.GET_RANDOM[:cut])
            self.wire.close()
            self.wire = self.peer.data()
        self.well()

    def test_data_peer_that_does_not_read(self):
        self.wire.socket.setblocking(False)
        try:
            for _ in range(100000):
                self.wire.socket.send(f.GET_RANDOM)
                time.sleep(0)
        except (BlockingIOError, BrokenPipeError, ConnectionError):
            pass
        self.assertEqual(self.peer.words(f.GET_CAPABILITY, 2)[0], SUCCESS)
        self.wire = self.peer.data()
        self.well()

    def test_second_control_peer_waits(self):
        second = self.control(self.there)
        second.send(f.GET_CAPABILITY)
        second.socket.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            second.socket.recv(1)
        self.well()
        self.peer.close()
        second.socket.settimeout(f.PATIENCE)
        self.assertEqual(struct.unpack(">II", f.exactly(second.socket, 8)), (SUCCESS, 0x17fff))
        self.peer = second
        self.well()

    def test_control_peer_that_goes_at_every_byte(self):
        requests = [struct.pack(">II", f.INIT, 0), struct.pack(">II", f.HASH_DATA, 4) + b"data",
                    struct.pack(">IIIII", f.SET_STATEBLOB, 0, 2, 4, 0),
                    struct.pack(">IIII", f.GET_STATEBLOB, 0, 9, 0), struct.pack(">IQII", f.GET_INFO, 1, 0, 0)]
        self.peer.close()
        for request in requests:
            for cut in range(len(request)):
                peer = self.control(self.there)
                peer.socket.sendall(request[:cut])
                peer.close()
        self.peer = self.control(self.there)
        self.well()

    def test_control_peer_that_falls_silent(self):
        self.peer.socket.sendall(b"\0\0")
        waiting = self.control(self.there)
        begin = time.monotonic()
        self.assertEqual(waiting.words(f.GET_CAPABILITY, 2)[0], SUCCESS)
        self.assertLess(time.monotonic() - begin, 5)
        with self.assertRaises((EOFError, ConnectionError)):
            self.peer.result()
        self.peer = waiting
        self.well()

    def test_control_requests_that_cannot_be(self):
        for request, size, result in (
                (struct.pack(">I", 0), 4, f.BAD_ORDINAL), (struct.pack(">I", 20), 4, f.BAD_ORDINAL),
                (struct.pack(">I", 0xffffffff), 4, f.BAD_ORDINAL),
                (struct.pack(">III", f.INIT, 0, 0), 4, f.BAD_PARAMETER),
                (struct.pack(">II", f.STOP, f.STOP), 4, f.BAD_PARAMETER),
                (struct.pack(">II", f.HASH_DATA, 4097), 4, f.BAD_PARAMETER),
                (struct.pack(">II", f.HASH_DATA, 0xffffffff), 4, f.BAD_PARAMETER),
                (struct.pack(">IIII", f.SET_STATEBLOB, 0, 1, 0xffffffff), 4, f.BAD_PARAMETER),
                (struct.pack(">IIII", f.GET_STATEBLOB, 0, 0, 0), 16, f.BAD_PARAMETER),
                (struct.pack(">IIII", f.GET_STATEBLOB, 0, 4, 0), 16, f.BAD_PARAMETER)):
            self.peer.socket.sendall(request)
            answer = f.exactly(self.peer.socket, size)
            self.assertEqual(struct.unpack(">I", answer[:4])[0], result, request.hex())
        self.well()

    def test_datafd_without_a_descriptor(self):
        self.assertEqual(self.peer.ask(f.SET_DATAFD), f.BAD_PARAMETER)
        self.well()

    def test_control_while_a_command_runs(self):
        """Orders wait for the command's end, and lose nothing."""
        answers = []
        self.wire.send(f.CREATE_RSA)
        asker = threading.Thread(target=lambda: answers.append(self.peer.locality(0)))
        asker.start()
        self.assertEqual(struct.unpack(">I", self.wire.response()[6:10])[0], 0)
        asker.join(f.PATIENCE)
        self.assertEqual(answers, [SUCCESS])
        self.well()


if __name__ == "__main__":
    unittest.main()
