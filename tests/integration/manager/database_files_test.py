"""Damaged, foreign and missing files: refused with a reason, left as they are, never made anew."""

import contextlib
import os
import sqlite3
import unittest

import frames
import rig

STATE = b"permanent state"


class DatabaseFiles(rig.RigTest):
    def setUp(self):
        super().setUp()
        self.web1 = self.create("web1")
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            engine.commit(0, (frames.PERMANENT, STATE))
        self.assertEqual(self.manager.stop(), 0)
        self.database = self.manager.state / "vault.db"
        self.whole = self.database.read_bytes()

    def change(self, sql):
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            database.executescript(sql)

    def refused(self):
        """Starts the manager on what is there and holds it to refusing; gives the reason."""
        before = self.files()
        self.manager.log.unlink()
        self.manager.start()
        status = self.json("status")
        self.assertEqual(status["state"], "locked")
        reason = status["reason"]
        for line in (("list",), ("create", "--name", "web2"), ("show", "web1"),
                     ("delete", "web1", "--yes")):
            self.ctl(*line, code=rig.LOCKED)
        reply = self.connect().ask(frames.open_instance(self.web1.bytes))
        self.assert_failure(reply, "locked")
        out = self.directory / "recovery"
        self.ctl("setup", "--recovery-out", out, code=(rig.REFUSED, rig.LOCKED))
        self.assertFalse(out.exists())
        self.assertEqual(self.json("status")["state"], "locked")
        self.assertEqual(self.manager.stop(), 0)
        after = self.files()
        self.assertEqual({name: after.get(name) for name in before}, before)
        self.assertLessEqual(set(after) - set(before), {"vault.db-wal", "vault.db-shm"})
        self.assertIn(reason["text"], self.manager.text(), "the journal does not say why")
        return reason

    def assert_opens_again(self):
        for name in ("vault.db-wal", "vault.db-shm"):
            (self.manager.state / name).unlink(missing_ok=True)
        self.manager.start()
        loaded = self.attach(self.hold(self.web1)).load()
        self.assertEqual(loaded.blobs, {frames.PERMANENT: STATE})

    def test_truncated(self):
        last = len(self.whole.rstrip(b"\0"))  # SQLite reads zeros past the end of a page that is cut
        for size in (1, 100, 4096, len(self.whole) // 2, len(self.whole) - 4096, last - 1):
            with self.subTest(size=size):
                self.database.write_bytes(self.whole[:size])
                self.assertEqual(self.refused()["code"], "corrupt")
        self.database.write_bytes(self.whole)
        self.assert_opens_again()

    def test_empty(self):
        self.database.write_bytes(b"")
        reason = self.refused()
        self.assertEqual(reason["code"], "corrupt")
        self.assertIn("empty", reason["text"])

    def test_garbage(self):
        for what in (os.urandom(len(self.whole)), bytes(len(self.whole)),
                     self.whole[:100] + os.urandom(len(self.whole) - 100)):
            self.database.write_bytes(what)
            self.assertEqual(self.refused()["code"], "corrupt")

    def test_another_format(self):
        self.change("PRAGMA user_version = 8")
        reason = self.refused()
        self.assertEqual(reason["code"], "unsupported")
        self.assertIn("format 8", reason["text"])
        self.change("PRAGMA user_version = 7")
        self.assert_opens_again()

    def test_another_program_s_database(self):
        self.change("PRAGMA application_id = 1")
        self.assertEqual(self.refused()["code"], "corrupt")

    def test_tables_that_are_not_ours(self):
        self.change("CREATE TABLE extra(a)")
        self.assertIn("table", self.refused()["text"])

    def test_a_row_of_the_vault_was_changed(self):
        self.change("UPDATE vault SET cell_index = cell_index + 1")
        self.assertEqual(self.refused()["code"], "corrupt")

    def test_an_instance_was_removed(self):
        self.change("DELETE FROM records; DELETE FROM instances")
        self.assertEqual(self.refused()["code"], "corrupt")

    def test_an_older_row_of_an_instance(self):
        # Only the row: the total over all rows tells.
        self.manager.start()
        engine = self.attach(self.hold(self.web1))
        self.assertEqual(engine.commit(1, (frames.PERMANENT, b"newer")), 2)
        self.assertEqual(self.manager.stop(), 0)
        old = self.directory / "old.db"
        old.write_bytes(self.whole)
        self.change(f"ATTACH '{old}' AS old; DELETE FROM records; DELETE FROM instances;"
                    "INSERT INTO instances SELECT * FROM old.instances;"
                    "INSERT INTO records SELECT * FROM old.records")
        self.assertEqual(self.refused()["code"], "corrupt")

    def test_one_record_was_changed(self):
        # One instance's trouble only.
        self.manager.start()
        web2 = self.create("web2")
        self.assertEqual(self.manager.stop(), 0)
        self.change("UPDATE records SET content = zeroblob(length(content))")
        self.manager.start()
        holder = self.hold(self.web1)
        for _ in range(2):
            engine = self.attach(holder)
            self.assert_failure(engine.load(), "corrupt")
            self.assert_failure(engine.commit(1, (frames.PERMANENT, b"new")), "corrupt")
        self.assertEqual(self.json("show", "web1")["state"], "quarantined")
        self.assertEqual(self.json("status")["reason"]["code"], "corrupt")
        self.assertEqual(self.attach(self.hold(web2)).load().sequence, 0)

    def test_removed(self):
        self.database.unlink()
        reason = self.refused()
        self.assertEqual(reason["code"], "corrupt")
        self.assertIn("set-up", reason["text"])
        self.assertEqual(set(self.files()), {"set-up"})
        self.database.write_bytes(self.whole)
        self.database.chmod(0o600)
        self.assert_opens_again()

    def test_in_other_hands(self):
        state, elsewhere = self.manager.state, self.directory / "elsewhere"

        def link():
            self.database.rename(elsewhere)
            self.database.symlink_to(elsewhere)

        def unlink():
            self.database.unlink()
            elsewhere.rename(self.database)
        for what, do, undo in (
                ("the directory is open", lambda: state.chmod(0o755), lambda: state.chmod(0o700)),
                ("the file is open", lambda: self.database.chmod(0o640),
                 lambda: self.database.chmod(0o600)),
                ("a second name", lambda: os.link(self.database, elsewhere), elsewhere.unlink),
                ("a symlink", link, unlink)):
            with self.subTest(what):
                do()
                try:
                    self.assertEqual(self.refused()["code"], "permission")
                finally:
                    undo()
        self.assert_opens_again()


if __name__ == "__main__":
    unittest.main()
