"""A TPM that goes from one machine to another, or to a later one: state blobs."""

import struct
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
        control = self.control(self.front(name, "web1"))
        data = control.data()
        self.assertEqual(control.init(1), SUCCESS)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(16))), pcr)
        self.assertFalse((self.directory / "web1.sock.volatile").exists())
        self.assertEqual(control.init(), SUCCESS)
        self.assertEqual(data.code(f.STARTUP), 0)


if __name__ == "__main__":
    unittest.main()
