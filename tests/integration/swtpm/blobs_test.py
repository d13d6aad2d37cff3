"""A TPM that goes from one machine to another, or to a later one: state blobs."""

import os
import signal
import struct
import threading
import unittest

import front as f
from front import FAIL, PERMANENT, SAVED, SUCCESS, VOLATILE

ONE = b"\x11" * 32


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
        self.fronts[-1].gone()
        control = self.control(self.front(name, "web1"))
        data = control.data()
        self.assertEqual(control.init(1), SUCCESS)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), pcr)
        self.assertFalse((self.directory / "web1.sock.volatile").exists())
        self.assertEqual(control.init(), SUCCESS)
        self.assertEqual(data.code(f.STARTUP), 0)

    def test_power_cycle_makes_a_stored_state_void(self):
        name = self.create("web1", "--tpm", "2.0")
        control, data, _ = self.running(name, "web1")
        self.assertEqual(control.ask(f.STORE_VOLATILE), SUCCESS)
        self.assertEqual(control.ask(f.STOP), SUCCESS)
        self.assertFalse((self.directory / "web1.sock.volatile").exists())
        self.assertEqual(control.init(), SUCCESS)
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), bytes(32))

    def test_init_goes_on_after_store_volatile(self):
        """As swtpm's does; but what happened since is not forgotten: nothing goes back."""
        name = self.create("web1", "--tpm", "2.0")
        control, data, _ = self.running(name, "web1")
        self.assertEqual(control.ask(f.STORE_VOLATILE), SUCCESS)
        self.assertEqual(data.code(f.pcr_extend(16, b"\x22" * 32)), 0)
        now = f.pcr_value(data.transmit(f.pcr_read(16)))
        self.assertEqual(control.init(), SUCCESS, self.fronts[-1].text())
        self.assertFalse((self.directory / "web1.sock.volatile").exists())
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), now)
        self.assertEqual(control.init(), SUCCESS)  # and the next one is a reset
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), bytes(32))

    def test_file_that_is_of_no_use_is_refused_once(self):
        name = self.create("web1", "--tpm", "2.0")
        front = self.front(name, "web1")
        control, _ = self.machine(front)
        self.assertEqual(control.ask(f.STORE_VOLATILE), SUCCESS)
        kept = (self.directory / "web1.sock.volatile").read_bytes()
        front.kill()  # before anything was put by
        for content in (kept, kept[:-1], b""):
            (self.directory / "web1.sock.volatile").write_bytes(content)
            front = self.front(name, "web1")
            control = self.control(front)
            self.assertEqual(control.init(1), FAIL, content.hex())
            self.assertEqual(control.init(), SUCCESS, front.text())
            front.kill()

    def test_failed_tpm_has_no_state(self):
        """Or it would come back with new PCRs, and no power cycle."""
        name = self.create("web1", "--tpm", "2.0")
        front = self.front(name, "source")
        control, data = self.machine(front)
        self.assertEqual(data.code(f.STARTUP), 0)
        os.kill(front.engines()[0], 9)
        with self.assertRaises((EOFError, ConnectionError)):
            data.transmit(f.GET_RANDOM)
        for kind in (PERMANENT, VOLATILE, SAVED):
            self.assertEqual(control.state_result(kind), f.BAD_ORDINAL)

    def test_ticket_of_nothing(self):
        name = self.create("web1", "--tpm", "2.0")
        source, _, _ = self.running(name, "source")
        _, volatile = self.give_away(source)
        other = self.control(self.front(name, "other"))
        self.assertEqual(other.set_state(VOLATILE, volatile[:-8] + bytes(8)), f.BAD_PARAMETER)

    def test_manager_that_is_away_destroys_nothing(self):
        name = self.create("web1", "--tpm", "2.0")
        source, data, pcr = self.running(name, "source")
        self.assertEqual(self.manager.stop(), 0)
        self.assertEqual(source.state_result(PERMANENT), FAIL)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), pcr)
        self.manager.start()
        f.rig.eventually(lambda: source.state(PERMANENT)[0] == SUCCESS)
        self.assertEqual(self.manager.stop(), 0)
        self.assertEqual(source.ask(f.LOCK_STORAGE, struct.pack(">I", 10)), FAIL)
        self.manager.start()
        self.assertEqual(source.ask(f.LOCK_STORAGE, struct.pack(">I", 500)), SUCCESS)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), pcr)
        self.assertEqual(self.manager.stop(), 0)
        self.assertEqual(source.ask(f.STOP), SUCCESS)

    def test_machine_that_dies_after_its_save(self):
        name = self.create("web1", "--tpm", "2.0")
        source, data, pcr = self.running(name, "source")
        blobs = self.give_away(source)
        data.close()
        source.close()
        later = self.control(self.front(name, "later"))
        arrived = later.data()
        self.assertEqual(self.take_over(later, *blobs), SUCCESS)
        self.assertEqual(f.pcr_value(arrived.transmit(f.pcr_read(16))), pcr)

    def test_destination_that_dies(self):
        """Before the guest runs there: then its source has it back."""
        name = self.create("web1", "--tpm", "2.0")
        source, data, pcr = self.running(name, "source")
        blobs = self.give_away(source)
        front = self.front(name, "destination")
        destination = self.control(front)
        arrived = destination.data()
        self.assertEqual(self.take_over(destination, *blobs), SUCCESS)
        destination.close()
        arrived.close()
        f.rig.eventually(lambda: "put by again" in front.text())
        self.assertEqual(source.ask(f.LOCK_STORAGE, struct.pack(">I", 300)), SUCCESS)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), pcr)

    def test_destination_that_is_ended(self):
        """In good order, but before the guest runs there."""
        for how in ("SHUTDOWN", "SIGTERM"):
            with self.subTest(how):
                name = self.create(f"web-{how.lower()}", "--tpm", "2.0")
                source, data, pcr = self.running(name, f"source-{how}")
                blobs = self.give_away(source)
                front = self.front(name, f"destination-{how}")
                destination = self.control(front)
                arrived = destination.data()
                self.assertEqual(self.take_over(destination, *blobs), SUCCESS)
                if how == "SIGTERM":
                    front.end()
                else:
                    self.assertEqual(destination.ask(f.SHUTDOWN), SUCCESS)
                arrived.close()
                self.assertEqual(source.ask(f.LOCK_STORAGE, struct.pack(">I", 300)), SUCCESS)
                self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), pcr)

    def test_machine_that_is_kept_while_the_manager_restarts(self):
        name = self.create("web1", "--tpm", "2.0")
        control, data, pcr = self.running(name, "first")
        self.assertEqual(control.ask(f.STORE_VOLATILE), SUCCESS)
        self.assertEqual(self.manager.stop(), 0)
        later = threading.Timer(2, self.manager.start)
        later.start()
        self.assertEqual(control.ask(f.SHUTDOWN), SUCCESS)
        later.join()
        self.fronts[-1].gone()
        data.close()
        control.close()
        _, data = self.machine(self.front(name, "first"))
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), pcr)

    def test_two_machines_of_one_instance(self):
        """The manager forgets who has it, and somebody else is there first: one of the two goes on."""
        name = self.create("web1", "--tpm", "2.0")
        _, data, _ = self.running(name, "first")
        first = self.fronts[-1]
        os.kill(first.process.pid, signal.SIGSTOP)
        self.assertEqual(self.manager.stop(), 0)
        self.manager.start()
        second = self.front(name, "second")
        _, other = self.machine(second)
        self.assertEqual(other.code(f.STARTUP), 0)
        os.kill(first.process.pid, signal.SIGCONT)
        f.rig.eventually(lambda: "another machine has taken the instance" in first.text(), 30)
        self.assertNotEqual(data.code(f.GET_RANDOM), 0)
        self.assertEqual(other.code(f.GET_RANDOM), 0)

    def test_ticket_of_a_machine_that_died_is_forgotten(self):
        name = self.create("web1", "--tpm", "2.0")
        source, _, _ = self.running(name, "source")
        permanent, volatile = self.give_away(source)
        front = self.front(name, "destination")
        destination = self.control(front)
        destination.data().close()
        self.assertEqual(destination.set_state(PERMANENT, permanent), SUCCESS)
        self.assertEqual(destination.set_state(VOLATILE, volatile), SUCCESS)
        destination.close()
        _, data = self.machine(front)
        self.assertEqual(data.code(f.GET_RANDOM), 0x100)  # a power-on
        self.assertEqual(data.code(f.STARTUP), 0)

    def test_machine_that_dies_lets_go(self):
        name = self.create("web1", "--tpm", "2.0")
        control, data, _ = self.running(name, "first")
        control.close()
        data.close()
        _, data = self.machine(self.front(name, "second"))
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), bytes(32))


if __name__ == "__main__":
    unittest.main()
