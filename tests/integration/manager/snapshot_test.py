"""Snapshots, reverts and clones by the real vtpmctl, and a list that is watched."""

import json
import os
import signal
import subprocess
import sys
import unittest
import uuid

import frames
import rig


class Snapshots(rig.RigTest):
    def setUp(self):
        super().setUp()
        self.web = self.create("web1", "--tpm", "2.0")

    def free(self):
        rig.eventually(lambda: self.json("status")["in_use"] == 0)

    def store(self, state, which=None):
        which = which or self.web
        with self.hold(which) as holder, self.attach(holder) as engine:
            loaded = engine.load()
            engine.commit(loaded.sequence, (frames.PERMANENT, state))
        self.free()

    def stored(self, which=None):
        with self.hold(which or self.web) as holder, self.attach(holder) as engine:
            loaded = engine.load()
        self.free()
        return loaded

    def test_the_whole_story(self):
        self.assertIn("never started", self.ctl("snapshot", "web1", "clean", code=1))
        self.store(b"old" * 1000)
        with self.hold(self.web):
            self.assertIn("in use by domain", self.ctl("snapshot", "web1", "clean", code=rig.IN_USE))
        self.free()
        kept = self.json("snapshot", "web1", "clean")
        self.assertEqual((kept["snapshot"], kept["snapshots"], kept["snapshot_bytes"]), ("clean", 1, 3000))
        self.assertIn("already", self.ctl("snapshot", "web1", "clean", code=1))
        self.store(b"new" * 1000)
        self.assertIn("--yes", self.ctl("revert", "web1", "clean", code=rig.BAD_COMMAND))
        with self.hold(self.web):
            self.assertIn("in use by domain",
                          self.ctl("revert", "web1", "clean", "--yes", code=rig.IN_USE))
        self.free()
        self.assertEqual(self.stored().blobs[frames.PERMANENT], b"new" * 1000)
        for _ in range(2):
            self.manager.kill()
            self.manager.start()
            reverted = self.json("revert", "web1", "clean", "--yes")
        self.assertEqual((reverted["reverts"], reverted["sequence"]), (2, 4))
        self.assertEqual(self.stored().blobs[frames.PERMANENT], b"old" * 1000)
        self.assertIn("reverts       2", self.ctl("show", "web1"))
        self.assertEqual([line["what"] for line in self.json("log")].count("revert"), 2)
        listed = self.json("snapshots", "web1")
        self.assertEqual([(s["name"], s["sequence"], s["bytes"]) for s in listed], [("clean", 1, 3000)])
        self.assertIn("--yes", self.ctl("delete-snapshot", "web1", "clean", code=rig.BAD_COMMAND))
        self.assertEqual(self.json("delete-snapshot", "web1", "clean", "--yes")["snapshots"], 0)
        self.ctl("revert", "web1", "clean", "--yes", code=rig.NOT_FOUND)
        self.assertEqual(self.json("snapshots", "web1"), [])

    def test_a_clone(self):
        self.store(b"state")
        self.ctl("snapshot", "web1", "clean")
        self.store(b"later")
        with self.hold(self.web):
            self.ctl("clone", "web1", "--name", "no", code=rig.IN_USE)
            old = self.json("clone", "web1", "--name", "old", "--snapshot", "clean")
        self.free()
        new = self.json("clone", "web1", "--name", "new", "--uuid",
                        "01234567-89ab-4def-8123-456789abcdef")
        self.assertEqual(new["uuid"], "01234567-89ab-4def-8123-456789abcdef")
        for made, state in ((old, b"state"), (new, b"later")):
            self.assertEqual(made["clone_of"], str(self.web))
            loaded = self.stored(uuid.UUID(made["uuid"]))
            self.assertEqual((loaded.sequence, loaded.blobs[frames.PERMANENT]), (1, state))
        self.assertEqual(self.json("show", "web1")["clones"], 2)
        self.assertIn("vtpm=[", self.json("show", "old")["xl"])

    def test_an_export_leaves_snapshots_behind_only_if_told(self):
        other = rig.RigTest()
        self.addCleanup(other.doCleanups)
        other.setUp()
        self.store(b"state")
        self.ctl("snapshot", "web1", "clean")
        ticket, package = self.directory / "ticket", self.directory / "package"
        other.ctl("ticket", "--out", ticket)
        line = ("export", "web1", "--to", ticket, "--out", package, "--yes")
        self.assertIn("do not go along", self.ctl(*line, code=1))
        self.assertFalse(package.exists())
        self.assertEqual(self.json("show", "web1")["state"], "live")
        self.ctl(*line, "--without-snapshots")
        self.ctl("revert", "web1", "clean", "--yes", code=rig.IN_USE)
        self.ctl("export", "web1", "--abort", "--yes")
        self.ctl("revert", "web1", "clean", "--yes")

    def test_a_vault_of_the_format_before(self):
        self.store(b"state")
        self.manager.stop()
        database = self.manager.state / "vault.db"
        subprocess.run([sys.executable, "-c", "import sqlite3, sys\n"
                        "with sqlite3.connect(sys.argv[1]) as db:\n"
                        "    db.executescript('ALTER TABLE instances DROP COLUMN past;"
                        " DROP TABLE snapshots; ALTER TABLE approvals DROP COLUMN actor;"
                        " ALTER TABLE journal DROP COLUMN kin;"
                        " ALTER TABLE journal DROP COLUMN other;"
                        " PRAGMA user_version = 5')", database], check=True)
        self.manager.start()
        self.assertEqual(self.json("status")["format"], 7)
        self.assertEqual(self.stored().blobs[frames.PERMANENT], b"state")
        self.ctl("snapshot", "web1", "clean")
        self.restart()
        self.ctl("revert", "web1", "clean", "--yes")

    def watch(self, *options):
        watching = subprocess.Popen([rig.VTPMCTL, "--socket", str(self.manager.socket), "list", "--watch",
                                     "--interval", "1", *options], stdout=subprocess.PIPE,
                                    stderr=subprocess.PIPE, text=True)
        self.addCleanup(watching.wait)
        self.addCleanup(watching.kill)
        self.addCleanup(watching.stdout.close)
        self.addCleanup(watching.stderr.close)
        return watching

    def test_a_list_that_is_watched_in_a_pipe(self):
        watching = self.watch("--json")
        self.assertEqual(json.loads(watching.stdout.readline())["name"], "web1")
        self.create("web2")
        self.assertEqual(json.loads(watching.stdout.readline())["name"], "web2")
        self.manager.kill()
        self.assertIn("waiting for vtpmmgrd", watching.stderr.readline())
        self.manager.start()
        with self.hold(self.web):
            changed = json.loads(watching.stdout.readline())
            self.assertEqual((changed["name"], changed["in_use"], changed["domain"]), ("web1", True, 7))
        self.assertFalse(json.loads(watching.stdout.readline())["in_use"])
        self.ctl("delete", "web2", "--yes")
        gone = json.loads(watching.stdout.readline())
        self.assertEqual((gone["name"], gone["state"]), ("web2", "gone"))
        watching.send_signal(signal.SIGINT)
        self.assertEqual(watching.wait(10), -signal.SIGINT)

    def test_a_watch_ends_when_nobody_reads(self):
        watching = self.watch()
        self.assertIn("HELD BY", watching.stdout.readline())
        self.assertIn("web1", watching.stdout.readline())
        watching.stdout.close()
        self.create("web2")
        self.assertEqual(watching.wait(10), 0)

    def test_a_watch_on_a_terminal_paints_over(self):
        ours, theirs = os.openpty()
        watching = subprocess.Popen([rig.VTPMCTL, "--socket", str(self.manager.socket), "list", "--watch",
                                     "--interval", "1"], stdout=theirs)
        self.addCleanup(watching.wait)
        self.addCleanup(watching.kill)
        os.close(theirs)
        self.addCleanup(os.close, ours)
        text = b""
        while text.count(b"\x1b[H\x1b[2J") < 2:
            text += os.read(ours, 4096)
        self.assertEqual(text.split(b"\x1b[H\x1b[2J")[1].count(b"web1"), 1)


if __name__ == "__main__":
    unittest.main()
