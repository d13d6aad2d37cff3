"""A TPM 1.2 as the host's chip: only if one says so, for approved boots, and with its limits told."""

import shutil
import socket
import struct
import unittest

import frames
import rig

PCRS = (4, 7)
STATE = (frames.PERMANENT, b"permanent state")


class Chip12(rig.Chip):
    """A software TPM 1.2 with an endorsement key; nobody owns it."""

    options = ()

    def command(self, ordinal, body=b""):
        with socket.socket(socket.AF_UNIX) as chip:
            chip.connect(str(self.socket))
            chip.sendall(struct.pack(">HII", 0xC1, 10 + len(body), ordinal) + body)
            answer = chip.recv(4096)
        self.last = struct.unpack(">HII", answer[:10])[2]
        return answer[10:]

    def make_endorsement_key(self):
        self.command(0x78, bytes(20) + struct.pack(">IHHIIII", 1, 3, 1, 12, 2048, 2, 0))
        assert self.last == 0, self.last

    def pcr(self, number):
        return self.command(0x15, struct.pack(">I", number))

    def extend(self, number, what):
        self.command(0x14, struct.pack(">I", number) + what.ljust(20, b"."))
        assert self.last == 0, self.last


class Legacy(rig.RigTest):
    ready = False

    def setUp(self):
        super().setUp()
        self.chip.make_endorsement_key()
        self.boot(b"this")

    def new_chip(self, state):
        chip = Chip12(self.directory, state)
        self.addCleanup(chip.stop)
        return chip

    def boot(self, what, measured=True):
        """The host is reset, and boots something that measures `what` into PCR 4."""
        if self.manager.running():
            self.manager.stop()
        self.chip.stop()
        self.chip.start()
        for number, event in zip(PCRS, (what, b"secure boot")):
            if measured:
                self.chip.extend(number, event)
        self.manager.start()

    def set_up(self, *more):
        self.ctl("setup", "--legacy-tpm12", "--pcrs", "4,7", *more)

    def state(self):
        return self.json("status")["state"]

    def reason(self):
        status = self.json("status")
        self.assertEqual(status["state"], "locked")
        return status["reason"]

    def write(self, which, sequence):
        with self.hold(which) as holder, self.attach(holder) as engine:
            self.assertEqual(engine.commit(sequence, STATE), sequence + 1)
        rig.eventually(lambda: self.json("status")["in_use"] == 0)

    def test_not_without_saying_so(self):
        status = self.json("status")
        self.assertEqual((status["state"], status["chip_tpm"]), ("not-set-up", "1.2"))
        self.assertIn("--legacy-tpm12", self.ctl("status"))
        said = self.ctl("setup", code=rig.REFUSED)
        self.assertIn("TPM 1.2", said)
        self.assertIn("--legacy-tpm12", said)
        self.ctl("setup", "--no-latch", code=rig.REFUSED)
        self.assertEqual(self.state(), "not-set-up")
        owned = self.chip_property(0x111)
        self.assertEqual(owned, b"\0", "refused, and nothing in the chip was changed")

    def chip_property(self, which):
        self.manager.stop()
        answer = self.chip.command(0x65, struct.pack(">III", 5, 4, which))
        self.manager.start()
        return answer[4:]

    def test_pcrs_that_nothing_is_measured_into(self):
        said = self.ctl("setup", "--legacy-tpm12", "--pcrs", "0,1", code=rig.REFUSED)
        self.assertIn("nothing is measured", said)
        self.assertEqual(self.state(), "not-set-up")

    def test_it_serves_and_says_what_it_cannot(self):
        self.set_up()
        web1 = self.create("web1")
        self.write(web1, 0)
        self.restart()
        with self.hold(web1) as holder, self.attach(holder) as engine:
            loaded = engine.load()
            self.assertEqual((loaded.sequence, loaded.blobs), (1, dict([STATE])))
            self.assertEqual(len(loaded.seed), 32)
        status = self.json("status")
        self.assertEqual((status["state"], status["chip_tpm"]), ("open", "1.2"))
        self.assertEqual(status["boot_latch"], "none")
        self.assertIn("TPM 1.2", status["chip"])
        self.assertIn("over PCRs 4,7", status["binding"])
        limits = "\n".join(status["limits"])
        for limit in ("bus", "latch", "approver", "take back", "commit cell", "root key", "SHA-1"):
            self.assertIn(limit, limits)
        self.assertIn("take back an approval", self.ctl("status"))
        # What it cannot do is refused, and named.
        public = self.directory / "a.pem"
        public.write_text("any")
        for line in (("approve", "this-boot", "--out", self.directory / "o"),
                     ("approver", "--none", "--yes")):
            self.assertIn("TPM 1.2", self.ctl(*line, code=rig.REFUSED))
        # What needs no more than sealing goes on.
        self.ctl("group", "create", "tenant")
        self.ctl("create", "--name", "web2", "--group", "tenant")
        self.ctl("rotate", "--root")
        self.ctl("rotate", "--group", "tenant")
        self.boot(b"this")
        self.assertEqual(self.state(), "open")
        self.assertEqual(self.json("status")["closed_groups"], 0)
        self.assertTrue(self.json("setup")["already_set_up"])

    def test_another_boot_is_locked_and_nothing_is_lost(self):
        key = self.directory / "recovery"
        self.set_up("--recovery-out", key)
        web1 = self.create("web1")
        self.write(web1, 0)
        self.boot(b"another")
        reason = self.reason()
        self.assertEqual(reason["code"], "not-approved")
        self.assertIn("PCR 4 ", reason["text"])
        self.assertIn("approve this-boot --legacy-tpm12", reason["text"])
        self.ctl("approve", "this-boot", "--legacy-tpm12", code=rig.LOCKED)
        self.boot(b"this")
        self.assertEqual(self.state(), "open")
        self.boot(b"another")
        self.ctl("unlock", "--recovery-key", key)
        self.write(web1, 1)
        self.restart()
        self.assertEqual(self.reason()["code"], "not-approved")
        self.ctl("unlock", "--recovery-key", key)
        self.ctl("approve", "this-boot", "--legacy-tpm12")
        self.assertEqual(len(self.json("approve", "list")), 2)
        self.restart()
        self.assertEqual(self.state(), "open")
        self.boot(b"this")
        self.assertEqual(self.state(), "open")
        self.write(web1, 2)
        self.boot(b"a third")
        self.assertEqual(self.reason()["code"], "not-approved")

    def test_the_next_boot_is_approved_before_it_comes(self):
        self.set_up()
        self.boot(b"the new kernel")
        self.manager.stop()
        value = self.chip.pcr(4).hex()
        self.boot(b"this")
        self.ctl("approve", "next", "--pcr", f"4={value}", code=rig.BAD_COMMAND)
        self.ctl("approve", "next", "--legacy-tpm12", "--pcr", f"7={'00' * 20}")
        self.ctl("approve", "next", "--legacy-tpm12", "--pcr", f"4={value}")
        self.ctl("approve", "next", "--legacy-tpm12", "--pcr", f"9={value}", code=rig.REFUSED)
        self.assertEqual([line["this_boot"] for line in self.json("approve", "list")],
                         [True, False, False])
        self.boot(b"the new kernel")
        self.assertEqual(self.state(), "open")
        self.boot(b"this")
        self.assertEqual(self.state(), "open")
        self.ctl("group", "create", "tenant")
        self.ctl("group", "close", "tenant")
        self.assertIn("lost: 2,", self.ctl("revoke", "--yes", code=rig.REFUSED))
        self.assertIn("closed", self.ctl("revoke", "--force", "--yes",
                                         code=(rig.REFUSED, rig.LOCKED)))
        self.ctl("group", "open", "tenant")
        self.boot(b"the new kernel")
        self.assertEqual(self.state(), "open", "nothing was lost so far")
        self.boot(b"this")
        self.ctl("revoke", "--force", "--yes")
        self.ctl("revoke", "--yes")  # there is nothing to lose
        self.assertEqual([line["this_boot"] for line in self.json("approve", "list")],
                         [True, True], "a boot for each group")
        self.boot(b"the new kernel")
        self.assertEqual(self.reason()["code"], "not-approved")
        self.boot(b"this")
        self.assertEqual((self.state(), self.json("status")["closed_groups"]), ("open", 0))

    def test_an_old_disk_is_noticed(self):
        key = self.directory / "recovery"
        self.set_up("--recovery-out", key)
        web1 = self.create("web1")
        self.write(web1, 0)
        self.manager.stop()
        old = self.directory / "old"
        shutil.copytree(self.manager.state, old)
        self.manager.start()
        self.write(web1, 1)
        self.manager.stop()
        shutil.rmtree(self.manager.state)
        shutil.copytree(old, self.manager.state)
        self.manager.start()
        self.assertEqual(self.reason()["code"], "rolled-back")
        reply = self.connect().ask(frames.open_instance(web1.bytes))
        self.assert_failure(reply, "locked")
        self.ctl("recover", "--yes", code=rig.REFUSED)
        self.ctl("recover", "--recovery-key", key, "--yes")
        self.assertEqual(self.json("status")["freshness"]["recoveries"], 1)
        self.write(web1, 1)
        self.restart()
        self.assertEqual(self.state(), "open")

    def test_a_chip_that_was_cleared_and_a_new_mainboard(self):
        key = self.directory / "recovery"
        self.set_up("--recovery-out", key)
        web1 = self.create("web1")
        self.write(web1, 0)
        self.manager.stop()
        self.chip.stop()
        self.chip = self.new_chip("another-chip")
        self.chip.start()
        self.chip.make_endorsement_key()
        self.boot(b"this")
        self.assertEqual(self.reason()["code"], "wrong-chip")
        self.ctl("recover", "--recovery-key", key, "--yes")
        self.write(web1, 1)
        self.boot(b"this")
        self.assertEqual(self.state(), "open")
        # And on to a TPM 2.0.
        self.manager.stop()
        self.chip.stop()
        self.chip = rig.Chip(self.directory, "a-2.0")
        self.addCleanup(self.chip.stop)
        self.chip.start()
        self.manager.start()
        self.assertEqual(self.reason()["code"], "wrong-chip")
        self.ctl("recover", "--recovery-key", key, "--yes")
        status = self.json("status")
        self.assertEqual((status["state"], status["chip_tpm"]), ("open", "2.0"))
        self.assertEqual(status["limits"], [])
        self.write(web1, 2)
        self.restart()
        self.assertEqual(self.state(), "open")


class NotLegacy(rig.RigTest):
    ready = False

    def test_a_tpm_2_0_is_not_set_up_as_a_1_2(self):
        self.assertIn("TPM 2.0", self.ctl("setup", "--legacy-tpm12", code=rig.REFUSED))
        status = self.json("status")
        self.assertEqual((status["state"], status["chip_tpm"]), ("not-set-up", "2.0"))
        self.ctl("setup")
        self.assertEqual(self.json("status")["limits"], [])
        self.ctl("approve", "this-boot", "--legacy-tpm12", code=rig.REFUSED)


if __name__ == "__main__":
    unittest.main(verbosity=2)
