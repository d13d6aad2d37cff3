"""A TPM moves from one host to another, and a vault is backed up and restored: two chips, two
managers, the real vtpmctl."""

import os
import resource
import shutil
import stat
import subprocess
import unittest

import frames
import rig

STATE = bytes(range(256)) * 40


class Moving(rig.RigTest):
    def setUp(self):
        super().setUp()
        self.other = rig.RigTest()  # the host of the other side
        self.addCleanup(self.other.doCleanups)
        self.other.setUp()
        self.web1 = self.create("web1", "--tpm", "2.0")
        self.store(STATE)
        self.ticket = self.directory / "ticket"
        self.package = self.directory / "package"
        self.receipt = self.directory / "receipt"

    def store(self, state):
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            loaded = engine.load()
            engine.commit(loaded.sequence, (frames.PERMANENT, state))
        self.free(self)

    def free(self, host):
        rig.eventually(lambda: host.json("status")["in_use"] == 0)

    def stored(self, host):
        with host.hold(self.web1) as holder, host.attach(holder) as engine:
            state = engine.load().blobs[frames.PERMANENT]
        self.free(host)
        return state

    def send(self):
        self.other.ctl("ticket", "--out", self.ticket)
        return self.json("export", "web1", "--to", self.ticket, "--out", self.package, "--yes")

    def test_the_whole_story(self):
        made = self.other.json("ticket", "--out", self.ticket)
        self.assertEqual(made["group"], "default")
        self.assertEqual(stat.S_IMODE(self.ticket.stat().st_mode), 0o600)
        line = ("export", "web1", "--to", self.ticket, "--out", self.package)
        self.assertIn("--yes", self.ctl(*line, code=rig.BAD_COMMAND))
        with self.hold(self.web1):
            self.assertIn("in use by domain", self.ctl(*line, "--yes", code=rig.IN_USE))
        self.free(self)
        self.assertFalse(self.package.exists())
        sent = self.json(*line, "--yes")
        self.assertEqual((sent["state"], sent["ticket"], sent["peer"]),
                         ("exported", made["ticket"], made["manager"]))
        self.assertNotIn(STATE[:32], self.package.read_bytes())
        self.assertEqual(self.json("list")[0]["state"], "exported")
        self.assertEqual(self.json("show", "web1")["exported_to"], made["manager"])

        # No guest gets it here, whatever happens to the manager.
        for _ in range(2):
            failure = self.assert_failure(self.connect().ask(
                frames.open_instance(self.web1.bytes)), "in-use")
            self.assertIn(made["manager"], failure.context)
            self.manager.kill()
            self.manager.start()

        got = self.other.json("import", self.package, "--receipt-out", self.receipt)
        self.assertEqual((got["uuid"], got["name"], got["tpm"], got["package"]),
                         (str(self.web1), "web1", "2.0", sent["package"]))
        self.other.manager.kill()
        self.other.manager.start()
        self.assertEqual(self.stored(self.other), STATE)

        lost = self.directory / "lost"
        self.assertIn("--again", self.other.ctl("import", self.package, "--receipt-out", lost,
                                                code=rig.REFUSED))
        self.assertFalse(lost.exists())
        self.other.ctl("import", self.package, "--receipt-out", lost, "--again")
        self.assertEqual(lost.read_bytes(), self.receipt.read_bytes())

        self.ctl("export", "web1", "--confirm", self.ticket, code=rig.REFUSED)
        self.assertIn("destroyed here", self.ctl("export", "web1", "--confirm", self.receipt))
        self.assertEqual(self.json("list"), [])
        self.ctl("show", "web1", code=rig.NOT_FOUND)
        actions = [line["what"] for line in self.json("log")]
        self.assertEqual(actions[-2:], ["export", "export-confirm"])
        there = [line["what"] for line in self.other.json("log")]
        self.assertIn("ticket", there)
        self.assertIn("import", there)

        # And back, with what it has learned.
        with self.other.hold(self.web1) as holder, self.other.attach(holder) as engine:
            engine.commit(1, (frames.PERMANENT, b"learned"))
        self.free(self.other)
        for path in (self.ticket, self.package, self.receipt):
            path.unlink()
        self.ctl("ticket", "--out", self.ticket)
        self.other.ctl("export", "web1", "--to", self.ticket, "--out", self.package, "--yes")
        self.ctl("import", self.package, "--receipt-out", self.receipt, "--name", "home")
        self.other.ctl("export", "web1", "--confirm", self.receipt)
        self.assertEqual(self.stored(self), b"learned")
        self.assertEqual(self.json("show", "home")["uuid"], str(self.web1))

    def test_what_people_read(self):
        said = self.other.ctl("ticket", "--out", self.ticket)
        number = said.split()[1]
        self.assertIn("vtpmctl export NAME --to", said)
        said = self.ctl("export", "web1", "--to", self.ticket, "--out", self.package, "--yes")
        self.assertIn(number, said)
        for word in ("--receipt-out", "--confirm", "--abort"):
            self.assertIn(word, said)
        said = self.other.ctl("import", self.package, "--receipt-out", self.receipt)
        self.assertEqual(said.splitlines()[0], self.other.json("show", "web1")["xl"])
        self.assertIn("--confirm", said)

    def test_the_package_could_not_be_written(self):
        self.other.ctl("ticket", "--out", self.ticket)
        run = subprocess.run(
            [rig.VTPMCTL, "--socket", self.manager.socket, "export", "web1", "--to", self.ticket,
             "--out", self.package, "--yes"], capture_output=True, text=True, check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024)))
        self.assertNotEqual(run.returncode, 0)
        self.package.unlink(missing_ok=True)  # a signal may have ended it
        self.assertEqual(self.json("show", "web1")["state"], "exported")
        other_ticket = self.directory / "other-ticket"
        self.other.ctl("ticket", "--out", other_ticket)
        line = ("export", "web1", "--out", self.package, "--yes", "--to")
        self.assertIn("no other", self.ctl(*line, other_ticket, code=rig.REFUSED))
        self.ctl(*line, self.ticket)
        self.ctl(*line, self.ticket, code=rig.REFUSED)  # there is a file
        self.other.ctl("import", self.package, "--receipt-out", self.receipt)
        self.assertEqual(self.stored(self.other), STATE)

    def test_refusals_make_nothing(self):
        self.send()
        good = self.package.read_bytes()
        bad = self.directory / "bad"

        def refused(content, word, code=rig.REFUSED):
            bad.write_bytes(content)
            self.assertIn(word, self.other.ctl("import", bad, "--receipt-out", self.receipt,
                                               code=code))
            self.assertFalse(self.receipt.exists())

        refused(good[:-1], "damaged")
        refused(good + b"x", "damaged")
        refused(good[:-1] + bytes([good[-1] ^ 1]), "changed")
        refused(b"", "damaged")
        refused(STATE, "no package")
        refused(bytes(3 * 1024 * 1024), "")
        self.assertIn("is for manager", self.ctl("import", self.package, "--receipt-out",
                                                 self.receipt, code=rig.REFUSED))
        self.assertEqual(self.other.json("list"), [])
        bad.write_bytes(self.ticket.read_bytes()[:-1])
        self.create("web2")
        self.assertIn("no ticket", self.ctl("export", "web2", "--to", bad, "--out",
                                            self.directory / "x", "--yes", code=rig.REFUSED))
        for line in (("export", "web2", "--yes"), ("export", "web2", "--abort", "--confirm", bad),
                     ("export", "web2", "--abort"), ("export", "web2", "--to", bad, "--yes"),
                     ("import", bad), ("ticket",), ("backup",)):
            with self.subTest(line=line):
                self.ctl(*line, code=rig.BAD_COMMAND)
        self.assertEqual(self.json("show", "web2")["state"], "live")

    def test_a_group_that_is_closed(self):
        self.other.ctl("group", "create", "tenant")
        self.other.ctl("ticket", "--group", "tenant", "--out", self.ticket)
        self.ctl("export", "web1", "--to", self.ticket, "--out", self.package, "--yes")
        self.other.ctl("group", "close", "tenant")
        self.assertIn("closed", self.other.ctl("import", self.package, "--receipt-out",
                                               self.receipt, code=rig.LOCKED))
        self.assertEqual(self.other.json("list"), [])

    def test_abort(self):
        self.send()
        self.ctl("export", "web1", "--abort", code=rig.BAD_COMMAND)
        said = self.ctl("export", "web1", "--abort", "--yes")
        self.assertIn("there are two", said)
        self.assertEqual(self.stored(self), STATE)
        self.assertEqual([line["what"] for line in self.json("log") if "abort" in line["what"]],
                         ["export-abort"])


class Backup(rig.RigTest):
    ready = False

    def setUp(self):
        super().setUp()
        self.key = self.directory / "recovery"
        self.ctl("setup", "--recovery-out", self.key)
        self.web1 = self.create("web1")
        self.store(b"one")

    def store(self, state):
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            engine.commit(engine.load().sequence, (frames.PERMANENT, state))
        rig.eventually(lambda: self.json("status")["in_use"] == 0)

    def stored(self):
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            state = engine.load().blobs[frames.PERMANENT]
        rig.eventually(lambda: self.json("status")["in_use"] == 0)
        return state

    def test_backup_restore_recover(self):
        copy = self.directory / "copy"
        names = sorted(path.name for path in self.manager.state.iterdir())
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            # Under a guest that writes.
            engine.commit(engine.load().sequence, (frames.PERMANENT, b"two"))
            made = self.json("backup", copy)
            engine.commit(2, (frames.PERMANENT, b"three"))
        rig.eventually(lambda: self.json("status")["in_use"] == 0)
        self.assertEqual(made["bytes"], copy.stat().st_size)
        self.assertLess(copy.stat().st_size, 200_000)
        self.assertEqual(stat.S_IMODE(copy.stat().st_mode), 0o600)
        self.assertEqual(sorted(path.name for path in self.manager.state.iterdir()), names)
        self.ctl("backup", copy, code=rig.REFUSED)  # there is a file
        self.assertEqual(self.json("log")[-1]["what"], "backup")
        self.assertEqual(self.stored(), b"three")

        # As vtpmctl(8) says.
        self.manager.stop()
        shutil.copyfile(copy, self.manager.state / "vault.db")
        os.chmod(self.manager.state / "vault.db", 0o600)
        (self.manager.state / "vault.db-wal").unlink(missing_ok=True)
        self.manager.start()
        self.assertEqual(self.json("status")["reason"]["code"], "rolled-back")
        self.ctl("recover", "--recovery-key", self.key, "--yes")
        self.assertEqual(self.stored(), b"two")
        self.restart()
        self.assertEqual(self.stored(), b"two")

    def test_on_a_host_that_has_nothing_but_the_backup_and_the_key(self):
        copy = self.directory / "copy"
        self.ctl("backup", copy)
        self.manager.stop()
        self.chip.stop()
        shutil.rmtree(self.manager.state)
        self.manager.state.mkdir(mode=0o700)
        shutil.copyfile(copy, self.manager.state / "vault.db")
        os.chmod(self.manager.state / "vault.db", 0o600)
        self.chip = self.new_chip("another")
        self.chip.start()
        self.manager.start()
        self.assertEqual(self.json("status")["reason"]["code"], "wrong-chip")
        self.ctl("recover", "--recovery-key", self.key, "--yes")
        self.assertEqual(self.stored(), b"one")

    def test_the_disk_is_full(self):
        names = sorted(path.name for path in self.manager.state.iterdir())
        small = self.directory / "small"
        run = subprocess.run(
            [rig.VTPMCTL, "--socket", self.manager.socket, "backup", small], capture_output=True,
            text=True, check=False,
            preexec_fn=lambda: (rig.signal.signal(rig.signal.SIGXFSZ, rig.signal.SIG_IGN),
                                resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))))
        self.assertEqual(run.returncode, rig.REFUSED, run.stderr)
        self.assertIn("File too large", run.stderr)
        self.assertFalse(small.exists())
        self.assertEqual(sorted(path.name for path in self.manager.state.iterdir()), names)
        self.assertEqual(self.stored(), b"one")


if __name__ == "__main__":
    unittest.main()
