"""vtpmmgrd.toml: what it may say, and that a mistake in it is named and fatal."""

import unittest
import uuid

import frames
import rig

BAD = {
    "an unknown key": ('sokcet = "x"', "sokcet"),
    "a table": ("[vault]\nx = 1", "vault"),
    "a number for a text": ("tcti = 5", "tcti"),
    "an empty text": ('state_dir = ""', "state_dir"),
    "a list for a text": ('state_dir = ["a"]', "state_dir"),
    "a table for a text": ("socket = {a = 1}", "socket"),
    "a text for a flag": ('auto_create = "yes"', "auto_create"),
    "a number for a flag": ("auto_create = 1", "auto_create"),
    "a version that is none": ('auto_create_tpm = "3.0"', "auto_create_tpm"),
    "a number for a version": ("auto_create_tpm = 2.0", "auto_create_tpm"),
    "a key twice": ('\ntcti = "a"\ntcti = "b"', "line 3"),
    "an open quote": ('tcti = "a', "line 1"),
    "no TOML at all": ("\x01\x02{{{{", "line 1"),
    "too long a socket": (f'socket = "/{"x" * 200}"', "socket"),
}


class Settings(rig.RigTest):
    ready = False

    def start_with(self, text):
        """The exit code of a vtpmmgrd with this configuration, and what it said."""
        self.manager.log.unlink()
        self.manager.config.write_bytes(text)
        self.manager.spawn()
        self.addCleanup(self.manager.kill)
        return self.manager.process.wait(20), self.manager.text()

    def test_mistakes_are_fatal_and_named(self):
        self.manager.stop()
        for what, (text, named) in BAD.items():
            with self.subTest(what):
                code, said = self.start_with(text.encode())
                self.assertEqual(code, 1, said)
                lines = [line for line in said.splitlines() if "cannot start" in line]
                self.assertEqual(len(lines), 1, said)
                self.assertIn(named, lines[0])

    def test_no_text_and_too_much_text(self):
        self.manager.stop()
        for what, text in {"not UTF-8": b'tcti = "\xff\xfe"', "NUL": b"\0" * 100,
                           "100 KiB": b"# " + b"x" * 100_000}.items():
            with self.subTest(what):
                code, said = self.start_with(text)
                self.assertEqual(code, 1, said)
                self.assertIn(str(self.manager.config), said)

    def test_it_is_not_a_file(self):
        self.manager.stop()
        self.manager.config.unlink()
        self.manager.config.mkdir()
        self.manager.spawn()
        self.assertEqual(self.manager.process.wait(20), 1)
        self.assertIn(str(self.manager.config), self.manager.text())

    def test_without_auto_create_an_unknown_uuid_is_refused(self):
        self.ctl("setup")
        stranger = uuid.uuid4()
        reply = self.connect().ask(frames.open_instance(stranger.bytes))
        failure = self.assert_failure(reply, "not-found")
        self.assertIn(f"vtpmctl create --name NAME --uuid {stranger}", failure.context)
        self.assertEqual(self.json("list"), [])

    def test_auto_create(self):
        self.ctl("setup")
        buried = self.create("web1")
        self.ctl("delete", "web1", "--yes")
        self.manager.stop()
        self.manager.settings |= {"auto_create": True, "auto_create_tpm": "2.0"}
        self.manager.start()
        self.assertTrue(self.json("status")["auto_create"])
        stranger = uuid.uuid4()
        self.hold(stranger)
        shown = self.json("show", stranger)
        self.assertEqual((shown["name"], shown["tpm"]), (f"auto-{str(stranger)[:8]}", "2.0"))
        # What was destroyed does not come back as something empty.
        self.connect().ask(frames.open_instance(buried.bytes))
        self.ctl("show", buried, code=rig.NOT_FOUND)
        reply = self.connect().ask(frames.open_instance(bytes(16)))
        self.assert_failure(reply, "invalid-argument")


if __name__ == "__main__":
    unittest.main()
