"""The host's chip: another one, none, one that comes late, one that goes away."""

import time
import unittest

import frames
import rig

STATE = (frames.PERMANENT, b"permanent state")


class TheChip(rig.RigTest):
    def setUp(self):
        super().setUp()
        self.web1 = self.create("web1")
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            self.assertEqual(engine.commit(0, STATE), 1)
        rig.eventually(lambda: self.json("status")["in_use"] == 0)

    def change_chip(self, to):
        for chip in (self.chip, self.other):
            chip.stop()
        to.start()

    @property
    def other(self):
        if not hasattr(self, "_other"):
            self._other = self.new_chip("other-chip")
        return self._other

    def assert_refuses(self):
        for line in (("list",), ("create", "--name", "web2"), ("show", "web1"),
                     ("rename", "web1", "web2"), ("delete", "web1", "--yes")):
            self.ctl(*line, code=rig.LOCKED)
        reply = self.connect().ask(frames.open_instance(self.web1.bytes))
        self.assert_failure(reply, "locked")
        out = self.directory / "recovery"
        for more in ((), ("--recovery-out", out),
                     ("--recovery-out", out, "--replace-recovery-key")):
            self.assertIn("locked", self.ctl("setup", *more, code=rig.LOCKED))
        self.assertFalse(out.exists())

    def assert_serves(self, seed=None):
        """`seed`: the size it has to have. The chip is asked for one every ten seconds at most."""
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            loaded = engine.load()
            self.assertEqual((loaded.sequence, loaded.blobs), (1, dict([STATE])))
            if seed is not None:
                self.assertEqual(len(loaded.seed), seed)
        rig.eventually(lambda: self.json("status")["in_use"] == 0)

    def test_another_chip(self):
        self.assertEqual(self.manager.stop(), 0)
        before = self.files()
        self.change_chip(self.other)
        self.manager.start()
        status = self.json("status")
        self.assertEqual(status["state"], "locked")
        self.assertEqual(status["reason"]["code"], "wrong-chip")
        self.assertEqual(status["reason"]["next"], "ask-operator")
        self.assert_refuses()
        self.assertIn("wrong-chip", self.manager.text())
        self.assertEqual(self.manager.stop(), 0)
        self.assertEqual(self.files(), before)

        self.change_chip(self.chip)
        self.manager.start()
        self.assertEqual(self.json("status")["state"], "open")
        self.assert_serves()

    def test_the_right_chip_comes_back_while_it_runs(self):
        self.assertEqual(self.manager.stop(), 0)
        self.change_chip(self.other)
        self.manager.start()
        self.assertEqual(self.json("status")["reason"]["code"], "wrong-chip")
        self.change_chip(self.chip)
        self.assertEqual(self.json("status")["state"], "open")
        self.assert_serves()

    def test_none_at_start(self):
        self.assertEqual(self.manager.stop(), 0)
        before = self.files()
        self.chip.stop()
        self.manager.start()
        status = self.json("status")
        self.assertEqual(status["state"], "locked")
        self.assertEqual(status["reason"]["code"], "unavailable")
        self.assertIn(str(self.chip.socket), status["reason"]["text"])
        self.assert_refuses()
        self.assertEqual(self.manager.text().count("vault locked"), 1, "it says so once")
        self.assertEqual({name: digest for name, digest in self.files().items()
                          if name in before}, before)

    def test_one_that_comes_late(self):
        self.assertEqual(self.manager.stop(), 0)
        self.chip.stop()
        self.manager.start()
        self.ctl("list", code=rig.LOCKED)
        before = self.manager.text().count("vault open")
        self.chip.start()
        rig.eventually(lambda: self.manager.text().count("vault open") > before, 12)
        self.assert_serves()

    def test_one_that_comes_late_is_there_for_who_asks(self):
        # As at boot, when udev gives us its node after we started: the first guest is not refused.
        self.assertEqual(self.manager.stop(), 0)
        self.chip.stop()
        self.manager.start()
        self.ctl("list", code=rig.LOCKED)
        self.chip.start()
        time.sleep(1.1)  # it looks once a second at most
        self.ctl("list")
        self.assert_serves()

    def test_one_that_goes_away(self):
        self.chip.stop()
        self.assert_serves(seed=0)
        self.assertEqual(self.json("status")["state"], "open")
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            self.assertEqual(engine.commit(1, STATE), 2)
        out = self.directory / "recovery"
        self.ctl("setup", "--recovery-out", out, code=rig.LOCKED)
        self.assertFalse(out.exists())
        self.assertTrue(self.manager.running())

        self.chip.start()
        holder = self.hold(self.web1)
        rig.eventually(lambda: len(self.attach(holder).load().seed) == 32, 15)

    def test_one_that_is_replaced_while_it_runs(self):
        # What a stranger's chip says is not even good as a random number.
        self.change_chip(self.other)
        self.assert_serves(seed=0)
        out = self.directory / "recovery"
        self.ctl("setup", "--recovery-out", out, code=rig.LOCKED)
        self.assertFalse(self.json("status")["recovery_key"])
        self.change_chip(self.chip)
        self.assert_serves()

    def test_one_that_was_reset(self):
        self.chip.stop()
        self.chip.start()
        self.assert_serves(seed=32)


if __name__ == "__main__":
    unittest.main()
