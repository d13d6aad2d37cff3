"""A full disk: writes are refused with the reason, and go on when there is room; nothing acknowledged is lost."""

import os
import shutil
import subprocess
import unittest

import frames
import rig
from frames import PERMANENT

DISK = 12 << 20
STATE = 300_000


class FullDisk(rig.RigTest):
    def setUp(self):
        super().setUp()
        self.web1 = self.create("web1")
        self.assertEqual(self.manager.stop(), 0, self.manager.text())
        copy = self.directory / "copy"
        self.manager.state.rename(copy)
        self.manager.state.mkdir(mode=0o700)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=700,size={DISK}", "tmpfs",
                        self.manager.state], check=True)
        self.addCleanup(subprocess.run, ["umount", "--lazy", self.manager.state], check=True)
        shutil.copytree(copy, self.manager.state, dirs_exist_ok=True)
        self.manager.start()

    def test_full(self):
        engine = self.attach(self.hold(self.web1))
        self.assertEqual(engine.commit(0, (PERMANENT, b"small")), 1)
        filler = self.manager.state / "filler"
        with self.assertRaises(OSError), filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        acknowledged, sequence = b"small", 1
        for _ in range(200):
            blob = os.urandom(STATE)
            answer = engine.commit(sequence, (PERMANENT, blob))
            if isinstance(answer, frames.Failure):
                break
            acknowledged, sequence = blob, answer
        failure = self.assert_failure(answer, "io")
        self.assertIn("full", failure.context)
        self.assertIn("the last write did not reach the disk", self.ctl("status"))
        filler.unlink()
        self.assertEqual(engine.commit(sequence, (PERMANENT, blob)), sequence + 1)
        self.assertNotIn("did not reach the disk", self.ctl("status"))
        self.assertNotEqual(acknowledged, blob)
        self.manager.kill()
        self.manager.start()
        loaded = self.attach(self.hold(self.web1)).load()
        self.assertEqual((loaded.sequence, loaded.blobs), (sequence + 1, {PERMANENT: blob}))


if __name__ == "__main__":
    unittest.main()
