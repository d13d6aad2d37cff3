"""vtpmctl setup: before it, twice, with a recovery key, and without a chip."""

import shutil
import subprocess
import unittest
import uuid

import frames
import rig


class Setup(rig.RigTest):
    ready = False

    def assert_nothing_there(self):
        self.assertEqual(self.json("status")["state"], "not-set-up")
        state = self.manager.state
        self.assertEqual(list(state.iterdir()) if state.exists() else [], [])

    def test_before_it_everything_is_refused(self):
        for line in (("list",), ("create", "--name", "a"), ("show", "a"), ("rename", "a", "b"),
                     ("delete", "a", "--yes")):
            self.assertIn("vtpmctl setup", self.ctl(*line, code=rig.LOCKED))
        reply = self.connect().ask(frames.open_instance(uuid.uuid4().bytes))
        self.assert_failure(reply, "not-set-up")
        self.assert_nothing_there()

    def test_twice(self):
        manager = self.json("setup")
        self.assertFalse(manager["already_set_up"])
        self.create("web1")
        self.assertIn("already", self.ctl("setup"))
        self.assertTrue(self.json("setup")["already_set_up"])
        status = self.json("status")
        self.assertEqual(status["manager"], manager["manager"])
        self.assertEqual((status["instances"], status["recovery_key"]), (1, False))
        self.assertEqual((self.manager.state / "set-up").read_text().strip(), manager["manager"])

    def test_a_directory_that_is_not_there_is_no_new_host(self):
        self.ctl("setup")
        web1 = self.create("web1")
        state, away = self.manager.state, self.directory / "not-mounted"
        self.manager.stop()
        state.rename(away)
        self.manager.start()
        status = self.json("status")
        self.assertEqual(status["state"], "not-set-up")
        self.assertIn("commit cell", status["reason"]["text"])
        self.assertIn("--beside-another", self.ctl("setup", code=rig.LOCKED))
        self.assertIn("mounted", self.ctl("create", "--name", "web2", code=rig.LOCKED))
        reply = self.connect().ask(frames.open_instance(web1.bytes))
        self.assertIn("commit cell", self.assert_failure(reply, "not-set-up").context)
        self.assert_nothing_there()
        self.manager.stop()
        shutil.rmtree(state, ignore_errors=True)
        away.rename(state)
        self.manager.start()
        self.assertEqual(self.json("show", "web1")["uuid"], str(web1))

    def test_recovery_key(self):
        out = self.directory / "recovery"
        self.ctl("setup", "--recovery-out", out)
        self.assertEqual(out.stat().st_mode & 0o7777, 0o600)
        self.assert_is_private_key(out)
        self.assertTrue(self.json("status")["recovery_key"])
        body = out.read_text().splitlines()[1]
        self.assertNotIn(body, self.manager.text())
        for file in self.manager.state.iterdir():
            self.assertNotIn(body.encode(), file.read_bytes())

        again = self.directory / "again"
        self.assertIn("--replace-recovery-key",
                      self.ctl("setup", "--recovery-out", again, code=rig.REFUSED))
        self.assertFalse(again.exists(), "a file without a key in it")
        self.ctl("setup", "--replace-recovery-key", code=rig.BAD_COMMAND)
        said = self.ctl("setup", "--recovery-out", again, "--replace-recovery-key")
        self.assertIn("opens what was escrowed to it", said)
        self.assert_is_private_key(again)
        self.assertNotEqual(again.read_text(), out.read_text())
        self.assertTrue(self.json("status")["recovery_key"])

    def test_recovery_key_later(self):
        self.ctl("setup")
        self.create("web1")
        out = self.directory / "recovery"
        said = self.json("setup", "--recovery-out", out)
        self.assertEqual((said["recovery_key"], said["recovery_key_proved"]), (str(out), True))
        self.assert_is_private_key(out)
        self.restart()
        self.assertTrue(self.json("status")["recovery_key"])
        self.ctl("show", "web1")

    def test_recovery_key_that_is_somewhere_else(self):
        private, public = self.directory / "private", self.directory / "public"
        subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt",
                        "ec_paramgen_curve:P-256", "-out", private], check=True,
                       capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True)
        said = self.ctl("setup", "--recovery-public", public)
        self.assertIn("vtpmctl check-recovery-key", said[said.index("Next: "):])
        self.ctl("check-recovery-key", private)

    def test_recovery_key_goes_over_no_other_file(self):
        out = self.directory / "recovery"
        out.write_text("mine")
        self.assertIn("exists", self.ctl("setup", "--recovery-out", out, code=rig.REFUSED))
        self.assertEqual(out.read_text(), "mine")
        link = self.directory / "link"
        link.symlink_to(self.directory / "elsewhere")
        self.ctl("setup", "--recovery-out", link, code=rig.REFUSED)
        self.assertFalse((self.directory / "elsewhere").exists())
        self.ctl("setup", "--recovery-out", self.directory / "no" / "where", code=rig.REFUSED)
        self.assert_nothing_there()

    def test_without_a_chip(self):
        self.chip.stop()
        out = self.directory / "recovery"
        self.ctl("setup", "--recovery-out", out, code=rig.LOCKED)
        self.assertFalse(out.exists())
        self.assert_nothing_there()
        self.chip.start()
        self.ctl("setup", "--recovery-out", out)
        self.assert_is_private_key(out)

    def assert_is_private_key(self, path):
        check = subprocess.run(["openssl", "pkey", "-in", path, "-check", "-noout"],
                               capture_output=True, text=True, check=False)
        self.assertEqual(check.returncode, 0, check.stderr)
        self.assertIn("Key is valid", check.stdout + check.stderr)


if __name__ == "__main__":
    unittest.main()
