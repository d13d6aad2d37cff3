"""Boots that an approver has signed, from the command line to the chip; openssl signs."""

import hashlib
import json
import socket
import struct
import subprocess
import unittest

import rig

PCRS = (4, 7)


class Approval(rig.RigTest):
    ready = False

    def setUp(self):
        super().setUp()
        self.key = self.directory / "approver.pem"
        self.public = self.directory / "approver.pub.pem"
        self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
                     self.key)
        self.openssl("pkey", "-in", self.key, "-pubout", "-out", self.public)
        self.boot(b"this")

    def openssl(self, *words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)

    def boot(self, what):
        """The host is reset, and boots something that measures `what` into PCR 4."""
        if self.manager.running():
            self.manager.stop()
        self.chip.stop()
        self.chip.start()
        for pcr, event in zip(PCRS, (what, b"secure boot")):
            self.extend(pcr, hashlib.sha256(event).digest())
        self.manager.start()

    def extend(self, pcr, digest):
        body = struct.pack(">II", pcr, 9) + struct.pack(">IHBH", 0x40000009, 0, 0, 0)
        body += struct.pack(">IH", 1, 0x000B) + digest
        command = struct.pack(">HII", 0x8002, 10 + len(body), 0x182) + body
        with socket.socket(socket.AF_UNIX) as chip:
            chip.connect(str(self.chip.socket))
            chip.sendall(command)
            self.assertEqual(struct.unpack(">HII", chip.recv(4096)[:10])[2], 0)

    def value_after(self, what):
        return hashlib.sha256(bytes(32) + hashlib.sha256(what).digest()).hexdigest()

    def set_up(self, *more):
        self.ctl("setup", "--approver", self.public, "--pcrs", "4,7", *more)

    def approve_elsewhere(self, *words):
        """As an operator does whose approver's key lies on another machine."""
        statement = self.directory / "statement"
        for path in self.directory.glob("statement*"):
            path.unlink()
        said = self.ctl("approve", *words, "--out", statement)
        self.assertIn("openssl dgst -sha256 -sign", said)
        self.openssl("dgst", "-sha256", "-sign", self.key, "-out", f"{statement}.sig",
                     f"{statement}.words")
        self.ctl("approve", "import", statement, "--signature", f"{statement}.sig")
        return statement

    def state(self):
        return self.json("status")["state"]

    def test_signed_elsewhere(self):
        self.set_up()
        self.assertIn("approved over PCRs 4,7", self.json("status")["binding"])
        self.ctl("create", "--name", "web1")
        self.boot(b"this")
        status = self.json("status")
        self.assertEqual(status["state"], "locked")
        self.assertEqual(status["reason"]["code"], "not-approved")
        self.ctl("show", "web1", code=rig.LOCKED)
        self.approve_elsewhere("this-boot")
        self.assertEqual(self.state(), "open")  # at once
        told = [line for line in self.json("log") if line["what"] == "approve"]
        self.assertEqual(len(told), 1)
        self.assertIn("while the vault was locked", told[0]["subject"])
        self.assertTrue(told[0]["who"].startswith("root"), told)
        self.boot(b"another")
        self.assertEqual(self.state(), "locked")
        self.assertIn("PCR 4", self.json("status")["reason"]["text"])
        self.boot(b"this")
        self.assertEqual(self.state(), "open")
        self.ctl("show", "web1")

    def test_the_words_can_be_recomputed(self):
        """From the statement alone, by what vtpmctl(8) says of it."""
        self.set_up()
        for words in (("this-boot",), ("this-boot", "--after-revoke"),
                      ("next", "--pcr", f"4={self.value_after(b'the new kernel')}")):
            statement = self.approve_elsewhere(*words)
            told = json.loads(statement.read_text())
            sha = lambda *parts: hashlib.sha256(b"".join(parts)).digest()
            manager = bytes.fromhex(told["manager"].replace("-", ""))
            group = bytes.fromhex(told["group"]["uuid"].replace("-", ""))
            pcrs = {int(n): bytes.fromhex(v) for n, v in told["pcrs"].items()}
            chosen = sum(1 << n for n in pcrs).to_bytes(3, "little")
            boot = sha(bytes(32), bytes.fromhex("0000017f" "00000001" "000b" "03"), chosen,
                       sha(*(pcrs[n] for n in sorted(pcrs))))
            purpose = b"xen-vtpm revocation counter"
            tag = sha(len(purpose).to_bytes(4, "big"), purpose, manager)
            name = b"\0\x0b" + sha(bytes.fromhex(told["counter"]),
                                   bytes.fromhex("000b" "22040012" "0020"), tag, b"\0\x08")
            limit = sha(told["limit"].to_bytes(8, "big"), bytes.fromhex("0000" "0009"))
            policy = sha(boot, bytes.fromhex("00000149"), limit, name)
            about = sha(b"xen-vtpm approval 1", manager, group)
            self.assertEqual((policy + about).hex(), told["words"])
            self.assertEqual((statement.parent / "statement.words").read_bytes(), policy + about)

    def test_the_approver_is_known_by_the_digest_that_openssl_gives(self):
        self.set_up()
        der = subprocess.run(["openssl", "pkey", "-pubin", "-in", str(self.public), "-outform",
                              "DER"], check=True, capture_output=True).stdout
        fingerprint = hashlib.sha256(der).hexdigest()
        self.assertEqual(self.json("group", "show", "default")["approver"], fingerprint)
        self.assertIn(fingerprint[:16], self.json("status")["binding"])

    def test_the_next_boot_is_signed_before_it_comes(self):
        self.set_up()
        self.ctl("approve", "this-boot", "--key", self.key)
        self.ctl("create", "--name", "web1")
        self.approve_elsewhere("next", "--pcr", f"4={self.value_after(b'the new kernel')}")
        self.boot(b"the new kernel")
        self.assertEqual(self.state(), "open")
        self.boot(b"this")
        self.assertEqual(self.state(), "open")
        self.boot(b"a third one")
        self.assertEqual(self.state(), "locked")

    def test_a_statement_that_was_altered(self):
        self.set_up()
        statement = self.approve_elsewhere("this-boot")
        content = json.loads(statement.read_text())
        content["pcrs"]["4"] = "11" * 32
        statement.write_text(json.dumps(content))
        self.ctl("approve", "import", statement, "--signature", f"{statement}.sig",
                 code=rig.REFUSED)

    def test_a_revocation(self):
        self.set_up()
        self.ctl("approve", "this-boot", "--key", self.key)
        self.ctl("approve", "next", "--pcr", f"4={self.value_after(b'old')}", "--key", self.key)
        self.ctl("revoke", "--yes", code=rig.REFUSED)  # nothing would open this boot any more
        self.ctl("approve", "this-boot", "--after-revoke", "--key", self.key)
        self.ctl("revoke", "--yes")
        self.boot(b"old")
        self.assertEqual(self.state(), "locked")
        self.boot(b"this")
        self.assertEqual(self.state(), "open")
        actions = [line["what"] for line in self.json("log")]
        self.assertIn("revoke", actions)

    def test_an_approver_who_has_lost_his_key(self):
        recovery = self.directory / "recovery"
        self.set_up("--recovery-out", recovery)
        self.ctl("create", "--name", "web1")
        self.boot(b"this")
        self.assertEqual(self.state(), "locked")
        self.ctl("unlock", "--recovery-key", recovery)
        self.ctl("approver", "--none", "--yes")
        self.boot(b"anything")
        self.assertEqual(self.state(), "open")
        self.ctl("show", "web1")

    def test_a_tenant_s_group(self):
        self.ctl("setup")
        self.ctl("group", "create", "tenant", "--approver", self.public, "--pcrs", "4,7")
        self.ctl("create", "--name", "web1", "--group", "tenant")
        self.ctl("create", "--name", "mine")
        self.boot(b"this")
        self.assertEqual(self.state(), "open")
        group = self.json("group", "show", "tenant")
        self.assertEqual(group["state"], "closed")
        self.assertEqual(group["reason"]["code"], "not-approved")
        self.approve_elsewhere("this-boot", "--group", "tenant")
        self.ctl("group", "open", "tenant")
        self.assertEqual(self.json("group", "show", "tenant")["state"], "open")
        self.boot(b"this")
        self.assertEqual(self.json("group", "show", "tenant")["state"], "open")

    def test_pcrs_that_nothing_is_measured_into(self):
        said = self.ctl("setup", "--approver", self.public, "--pcrs", "0,1", code=rig.REFUSED)
        self.assertIn("nothing is measured", said)
        self.assertEqual(self.state(), "not-set-up")


if __name__ == "__main__":
    unittest.main(verbosity=2)
