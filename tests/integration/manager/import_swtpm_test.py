"""vtpmctl import-swtpm with the real manager: what gets in, what is refused, and that nothing is left
half done."""

import subprocess
import unittest
import uuid

import frames
import rig

CREATE_WITH_STATE = 26
KEY = "00112233445566778899aabbccddeeff" * 2


class ImportSwtpm(rig.RigTest):
    def source(self, name, *options, stop=True):
        """The state directory of a swtpm that has run once, and the state as it gave it out."""
        where = self.directory / name
        where.mkdir()
        control = self.directory / f"{name}.ctrl"
        swtpm = subprocess.Popen(
            ["swtpm", "socket", "--tpmstate", f"dir={where}", "--server",
             f"type=unixio,path={self.directory / name}.sock", "--ctrl",
             f"type=unixio,path={control}", "--flags", "not-need-init,startup-clear", *options],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(swtpm.wait)
        self.addCleanup(swtpm.kill)
        rig.eventually(lambda: rig.somebody_listens(control))
        out = self.directory / f"{name}.out"
        subprocess.run(["swtpm_ioctl", "--unix", control, "--save", "permanent", out], check=True)
        if stop:
            swtpm.kill()
            swtpm.wait()
        return where, out.read_bytes()[22:]

    def key(self, content=KEY):
        path = self.directory / "key"
        path.write_text(content)
        return path

    def stored(self, which):
        """What an engine would load; the manager is killed first."""
        self.manager.kill()
        self.manager.start()
        with self.hold(which) as holder, self.attach(holder) as engine:
            return engine.load()

    def test_what_swtpm_kept_is_what_the_engine_gets(self):
        key = self.key()
        for name, version, options, with_key in (
                ("a", "2.0", ["--tpm2"], []),
                ("b", "1.2", [], []),
                ("c", "2.0", ["--tpm2", "--key", f"file={key},mode=aes-256-cbc"], ["--key", key]),
                ("d", "1.2", ["--key", f"pwdfile={key}"], ["--pwdfile", key])):
            with self.subTest(name):
                where, state = self.source(name, *options)
                before = {path.name: path.read_bytes() for path in where.iterdir()
                          if path.is_file()}
                made = self.json("import-swtpm", where, "--name", name, *with_key)
                self.assertEqual((made["tpm"], made["sequence"], made["bytes"]),
                                 (version, 1, len(state)))
                self.assertEqual((made["source"], made["left_out"], made["encrypted_source"]),
                                 (str(where), [], bool(with_key)))
                loaded = self.stored(uuid.UUID(made["uuid"]))
                self.assertEqual((loaded.sequence, loaded.blobs), (1, {frames.PERMANENT: state}))
                self.assertEqual(before, {path.name: path.read_bytes() for path in where.iterdir()
                                          if path.is_file()})
                rig.eventually(lambda: self.json("status")["in_use"] == 0)

    def test_it_says_what_to_do_next(self):
        where, _ = self.source("a", "--tpm2")
        (where / "tpm2-00.volatilestate").write_bytes(b"v")
        wanted = "11111111-2222-4333-8444-555555555555"
        said = self.ctl("import-swtpm", where, "--name", "web1", "--uuid", wanted,
                        "--sync").splitlines()
        self.assertEqual(said[0], f'vtpm=["backend=0,uuid={wanted}"]')
        self.assertTrue(self.json("show", "web1")["sync"])
        self.assertEqual(said[0], self.json("show", "web1")["xl"])
        said = "\n".join(said)
        for word in ("Left out: tpm2-00.volatilestate", "Keep", "erase", str(where)):
            self.assertIn(word, said)

    def test_refusals_make_nothing(self):
        where, _ = self.source("a", "--tpm2", "--key", f"file={self.key()},mode=aes-256-cbc")
        busy, _ = self.source("b", "--tpm2", stop=False)
        wrong = self.directory / "wrong"
        wrong.write_text(KEY[::-1])
        empty = self.directory / "empty"
        empty.mkdir()
        for code, word, line in (
                (rig.REFUSED, "--key", (where,)),
                (rig.REFUSED, "key is not the one", (where, "--key", wrong)),
                (rig.REFUSED, "128", (where, "--pwdfile", f"{wrong},mode=aes-cbc")),
                (rig.NOT_FOUND, "tpm-00.permall", (where, "--tpm", "1.2")),
                (rig.NOT_FOUND, "--tpmstate", (empty,)),
                (rig.NOT_FOUND, "not there", (empty / "x",)),
                (rig.IN_USE, "in use by process", (busy,)),
                (rig.BAD_COMMAND, "xcludes", (where, "--key", wrong, "--pwdfile", wrong))):
            with self.subTest(line=line):
                self.assertIn(word, self.ctl("import-swtpm", *line, "--name", "web1", code=code))
        self.ctl("import-swtpm", where, code=rig.BAD_COMMAND)
        self.ctl("import-swtpm", where, "--name", "a b", "--key", self.key(), code=rig.REFUSED)
        self.assertEqual(self.json("list"), [])
        self.ctl("import-swtpm", where, "--name", "web1", "--key", self.key())
        self.assertIn("web1", self.ctl("import-swtpm", where, "--name", "web1", "--key",
                                       self.key(), code=rig.REFUSED))
        self.assertEqual(len(self.json("list")), 1)

    def test_the_manager_takes_no_state_that_is_none(self):
        body = frames.message((1, "web1"), (2, frames.TPM_2_0))
        with self.connect() as peer:
            request = frames.request(CREATE_WITH_STATE, body)
            self.assert_failure(peer.ask(request), "invalid-argument")
            self.assert_failure(peer.ask(request, bytes(frames.MAX_BLOB + 1)), "too-large")
            self.assertEqual(self.json("list"), [])
            self.assertIsNone(frames.failure_of(peer.ask(request, bytes(frames.MAX_BLOB))))
        self.assertEqual(self.json("show", "web1")["sequence"], 1)


if __name__ == "__main__":
    unittest.main()
