"""All that an administrator and a guest can ask of a manager, one after another, for tests that look
at where the secrets go. After each step: looked(step)."""

import hashlib
import os
import shutil
import socket
import struct
import subprocess

import frames
import rig
from secrets_of import Secrets, of_private_key

PCRS = (4, 7)


class WholeApi(rig.RigTest):
    ready = False

    def setUp(self):
        super().setUp()
        self.key = self.directory / "recovery"
        self.approver = self.directory / "approver.pem"
        self.public = self.directory / "approver.pub.pem"
        for words in (("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out",
                       self.approver), ("pkey", "-in", self.approver, "-pubout", "-out", self.public)):
            subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
        self.other = rig.RigTest()
        self.addCleanup(self.other.doCleanups)
        self.other.setUp()
        self.ever = of_private_key("approver's key", self.approver)
        self.closed = set()
        self.secrets = None
        self.number = 0

    def looked(self, step):
        """What a test does after a step."""

    def done(self, step):
        """Learns what the vault's secrets are now, and has the test look."""
        rig.eventually(lambda: self.json("status")["in_use"] == 0)
        self.ever.update(of_private_key(f"recovery key {self.key.name}", self.key))
        self.secrets = Secrets(self.manager.state, self.key)
        self.ever.update(self.secrets.all())
        with self.subTest(step=step):
            self.looked(step)

    def boot(self, what):
        """The host is reset, and boots something that measures `what` into PCR 4."""
        if self.manager.running():
            self.manager.stop()
        self.chip.stop()
        self.chip.start()
        for pcr, event in zip(PCRS, (what, b"secure boot")):
            self._extend(pcr, hashlib.sha256(event).digest())
        self.manager.start()

    def _extend(self, pcr, digest):
        body = struct.pack(">II", pcr, 9) + struct.pack(">IHBH", 0x40000009, 0, 0, 0)
        body += struct.pack(">IH", 1, 0x000B) + digest
        with socket.socket(socket.AF_UNIX) as chip:
            chip.connect(str(self.chip.socket))
            chip.sendall(struct.pack(">HII", 0x8002, 10 + len(body), 0x182) + body)
            self.assertEqual(struct.unpack(">HII", chip.recv(4096)[:10])[2], 0)

    def write(self, which):
        """A guest's TPM stores a state and has it again; the state counts as a secret."""
        self.number += 1
        state = os.urandom(40) * 200
        self.ever[f"state {self.number}"] = state[:40]
        with self.hold(which) as holder, self.attach(holder) as engine:
            loaded = engine.load()
            engine.commit(loaded.sequence, (frames.PERMANENT, state))
        with self.hold(which) as holder, self.attach(holder) as engine:
            self.assertEqual(engine.load().blobs[frames.PERMANENT], state)

    def tell(self):
        """The story."""
        self._beginning()
        self._snapshots()
        self._new_keys()
        self._groups()
        self._approvals()
        self._moves()
        self._ways_back()
        self._ends()

    def _beginning(self):
        self.boot(b"this")
        self.ctl("setup", "--recovery-out", self.key, "--approver", self.public, "--pcrs", "4,7")
        self.done("setup")
        self.ctl("approve", "this-boot", "--key", self.approver)
        self.a, self.b = self.create("a", "--tpm", "2.0"), self.create("b", "--sync")
        self.write(self.a)
        self.write(self.b)
        self.done("create and store")
        self.restart()
        self.done("restart")

    def _snapshots(self):
        self.ctl("snapshot", "b", "s")
        self.write(self.b)
        self.ctl("snapshot", "b", "later")
        self.ctl("revert", "b", "s", "--yes")
        self.json("clone", "b", "--name", "d", "--snapshot", "later")
        self.done("snapshot, revert and clone")
        self.ctl("delete-snapshot", "b", "later", "--yes")
        self.ctl("delete", "d", "--yes")
        self.done("delete a snapshot")

    def _new_keys(self):
        self.ctl("rotate", "b")
        for words in (("a",), ("--group", "default"), ("--root",)):
            self.ctl("rotate", *words)
            self.done(f"rotate {words}")
        self.write(self.a)

    def _groups(self):
        self.ctl("group", "create", "tenant")
        self.c = self.create("c", "--group", "tenant")
        self.write(self.c)
        self.done("group create")
        self.ctl("rotate", "--group", "tenant")
        self.done("rotate a group")
        self.ctl("group", "close", "tenant")
        self.closed.add("tenant")
        self.done("group close")
        self.ctl("approve", "this-boot", "--group", "tenant", "--key", self.approver)
        self.ctl("group", "open", "tenant")
        self.closed.clear()
        self.done("group open")

    def _approvals(self):
        self.ctl("approve", "next", "--pcr", f"4={'11' * 32}", "--key", self.approver)
        for group in ("default", "tenant"):
            self.ctl("approve", "this-boot", "--after-revoke", "--group", group, "--key",
                     self.approver)
        self.ctl("approve", "list")
        self.ctl("revoke", "--yes")
        self.done("approve and revoke")
        self.boot(b"this")
        self.done("an approved boot")

    def _moves(self):
        ticket, package, receipt = (self.directory / name for name in ("t", "p", "r"))
        self.other.ctl("ticket", "--out", ticket)
        self.ctl("export", "a", "--to", ticket, "--out", package, "--yes")
        self.done("export")
        self.other.ctl("import", package, "--receipt-out", receipt)
        self.ctl("export", "a", "--confirm", receipt)
        self.done("export confirmed")
        for path in (ticket, package, receipt):
            path.unlink()
        self.ctl("ticket", "--group", "tenant", "--out", ticket)
        self.other.ctl("export", "a", "--to", ticket, "--out", package, "--yes")
        self.ctl("import", package, "--receipt-out", receipt)
        self.done("import")

    def _ways_back(self):
        copy = self.directory / "copy"
        self.ctl("backup", copy)
        self.write(self.b)
        self.done("backup")
        self.manager.stop()
        shutil.copyfile(copy, self.manager.state / "vault.db")
        (self.manager.state / "vault.db-wal").unlink(missing_ok=True)
        self.manager.start()
        self.assertEqual(self.json("status")["reason"]["code"], "rolled-back")
        self.ctl("recover", "--recovery-key", self.key, "--yes")
        self.done("recover")
        self.boot(b"another")
        self.assertEqual(self.json("status")["state"], "locked")
        self.ctl("unlock", "--recovery-key", self.key)
        self.ctl("check-recovery-key", self.key)
        self.done("unlock")
        self.ctl("approver", "--none", "--yes")
        self.key = self.directory / "recovery2"
        self.ctl("setup", "--recovery-out", self.key, "--replace-recovery-key")
        self.done("another approver and recovery key")

    def _ends(self):
        for name in ("a", "b", "c"):
            self.ctl("delete", name, "--yes")
        self.done("delete")
        self.ctl("group", "delete", "tenant", "--yes")
        self.done("group delete")
