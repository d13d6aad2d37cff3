"""New keys while guests run: the chip takes long for them, and engines do not wait for all of it."""

import threading
import time
import unittest

import rig
from frames import PERMANENT
from tap import Tap

GROUPS = 8


class Renewal(rig.RigTest):
    ready = False

    def setUp(self):
        super().setUp()
        self.tap = Tap(self.directory, self.chip.socket)
        self.addCleanup(self.tap.close)
        self.manager.stop()
        self.manager.settings["tcti"] = f"swtpm:path={self.tap.path}"
        self.manager.start()
        self.ctl("setup")

    def test_engines_are_answered_meanwhile(self):
        for number in range(GROUPS):
            self.ctl("group", "create", f"g{number}")
        engine = self.attach(self.hold(self.create("web1")))
        engine.load()

        def slow(_number, _command, pass_on):
            time.sleep(0.02)
            return pass_on()
        self.tap.arm(slow)
        rotated = []
        thread = threading.Thread(target=lambda: rotated.append(self.ctl("rotate", "--root")))
        begin = time.monotonic()
        thread.start()
        sequence, waits = 0, []
        while thread.is_alive():
            asked = time.monotonic()
            sequence = engine.commit(sequence, (PERMANENT, b"x"))
            waits.append(time.monotonic() - asked)
            time.sleep(0.01)
        thread.join()
        took = time.monotonic() - begin
        self.tap.release()
        self.assertTrue(rotated, "the rotation failed")
        longer = [wait for wait in waits if wait > 0.2]
        self.assertGreaterEqual(len(longer), GROUPS, (took, waits))
        self.assertLess(max(waits), took / 2, (took, waits))
        self.restart()
        loaded = self.attach(self.hold(self.create("web2"))).load()
        self.assertEqual(loaded.sequence, 0)
        self.assertEqual(self.json("show", "web1")["sequence"], sequence)


if __name__ == "__main__":
    unittest.main()
