"""Older copies of the vault's directory, a chip that was cleared, a new chip; and the way out."""

import shutil
import unittest

import frames
import rig


class Rollback(rig.RigTest):
    ready = False

    def setUp(self):
        super().setUp()
        self.key = self.directory / "recovery"
        self.ctl("setup", "--recovery-out", self.key)
        self.web1 = self.create("web1")

    def store(self, text):
        """One more write of web1's TPM; its sequence afterwards."""
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            loaded = engine.load()
            return engine.commit(loaded.sequence, (frames.PERMANENT, text))

    def stored(self):
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            return dict(engine.load().blobs).get(frames.PERMANENT)

    def free(self):
        rig.eventually(lambda: not self.json("show", "web1")["in_use"])

    def snapshot(self, name):
        copy = self.directory / name
        shutil.copytree(self.manager.state, copy)
        return copy

    def tpm2(self, *command):
        """What the chip's owner does; the manager has let the chip go."""
        rig.subprocess.run(command, check=True, capture_output=True,
                           env={**rig.os.environ, "TPM2TOOLS_TCTI": self.chip.tcti})

    def put_back(self, copy):
        shutil.rmtree(self.manager.state)
        shutil.copytree(copy, self.manager.state)

    def assert_locked(self, code, *words):
        status = self.json("status")
        self.assertEqual((status["state"], status["reason"]["code"]), ("locked", code))
        self.assertIn(status["reason"]["text"], self.ctl("list", code=rig.LOCKED))
        reply = self.connect().ask(frames.open_instance(self.web1.bytes))
        self.assert_failure(reply, "locked")
        # Whoever looks anywhere reads why, and the ways out.
        for told in (status["reason"]["text"], self.ctl("status"), self.manager.text(),
                     frames.failure_of(reply)[2]):
            for some in words:
                self.assertIn(some, told)
        return status

    def test_an_older_copy_and_recovery(self):
        self.store(b"one")
        self.assertEqual(self.manager.stop(), 0)
        older = self.snapshot("older")
        self.manager.start()
        self.free()
        self.store(b"two")
        self.manager.kill()  # not in order: the start that follows commits
        self.manager.start()
        self.assertEqual(self.stored(), b"two")
        self.manager.kill()
        newest = self.snapshot("newest")

        self.put_back(older)
        before = sorted(path.name for path in self.manager.state.iterdir())
        self.manager.start()
        self.assert_locked("rolled-back", "an older copy", "vtpmctl recover")
        self.ctl("recover", "--recovery-key", self.key, code=rig.BAD_COMMAND)  # no --yes
        self.ctl("recover", "--yes", code=rig.REFUSED)  # no key
        self.ctl("recover", "--yes", "--recovery-key", "/dev/zero", code=rig.REFUSED)
        self.assert_locked("rolled-back")
        self.manager.stop()
        self.assertLessEqual(set(before), {path.name for path in self.manager.state.iterdir()})

        # With the newest one back, nothing has happened.
        self.put_back(newest)
        self.manager.start()
        self.assertEqual(self.stored(), b"two")
        self.assertEqual(self.json("status")["freshness"]["recoveries"], 0)
        self.free()
        self.manager.stop()

        self.put_back(older)
        self.manager.start()
        said = self.ctl("recover", "--yes", "--recovery-key", self.key)
        self.assertIn("newest state", said)
        self.assertEqual(self.json("status")["freshness"]["recoveries"], 1)
        self.assertEqual(self.stored(), b"one")
        self.free()
        self.restart()
        self.assertEqual(self.stored(), b"one")

    def test_status_shows_the_window(self):
        fresh = self.json("status")["freshness"]
        self.store(b"one")
        now = self.json("status")["freshness"]
        # One for the journal's line about who opened it, one for the state.
        self.assertEqual(now["writes_since"], fresh["writes_since"] + 2)
        self.assertEqual(now["epoch"], fresh["epoch"])
        self.free()
        self.restart()
        now = self.json("status")["freshness"]
        self.assertEqual((now["writes_since"], now["epoch"]), (0, fresh["epoch"] + 1))
        self.assertEqual(now["chip_writes"], fresh["chip_writes"] + 1)
        self.assertLess(now["tokens"], 200)
        said = self.ctl("status")
        self.assertRegex(said, r"committed to the chip 2\S+Z, [0-9]+ s ago; writes since: 0\n")
        seconds = self.json("status")["freshness"]["seconds_since"]
        self.assertTrue(0 <= seconds < 60, seconds)
        rig.eventually(lambda: self.json("status")["freshness"]["seconds_since"] > seconds)

    def test_sync_from_now_on(self):
        self.store(b"one")
        self.free()
        self.assertGreater(self.json("status")["freshness"]["writes_since"], 0)
        self.assertIn("to the chip as well", self.ctl("sync", "web1", "on"))
        self.assertEqual(self.json("status")["freshness"]["writes_since"], 0)
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            sequence = engine.load().sequence
            sequence = engine.commit(sequence, (frames.PERMANENT, b"two"))
            self.assertEqual(self.json("status")["freshness"]["writes_since"], 0)
            self.assertFalse(self.json("sync", "web1", "off")["sync"])  # while the guest runs
            engine.commit(sequence, (frames.PERMANENT, b"three"))
            self.assertGreater(self.json("status")["freshness"]["writes_since"], 0)
        told = [line["subject"].split()[-1] for line in self.json("log")
                if line["what"] == "sync"]
        self.assertEqual(told, ["on", "off"])
        self.ctl("sync", "nobody", "on", code=rig.NOT_FOUND)

    def test_the_chip_was_replaced(self):
        self.store(b"one")
        self.free()
        self.manager.stop()
        self.chip.stop()
        old = self.chip
        self.chip = self.new_chip("another")
        self.chip.start()
        self.manager.start()
        self.assert_locked("wrong-chip", "exchanged for another chip", "Put back the chip",
                           "vtpmctl recover --recovery-key")
        # With the old one back, nothing has happened.
        new = self.chip
        self.manager.stop()
        new.stop()
        self.chip = old
        old.start()
        self.manager.start()
        self.assertEqual(self.stored(), b"one")
        self.free()
        self.manager.stop()
        old.stop()
        self.chip = new
        new.start()
        self.manager.start()
        self.ctl("recover", "--yes", "--recovery-key", self.key)
        self.assertEqual(self.stored(), b"one")
        self.free()
        self.restart()
        self.assertEqual(self.stored(), b"one")

    def test_the_chip_was_cleared(self):
        self.store(b"one")
        self.free()
        self.manager.stop()
        self.tpm2("tpm2_clear")  # what the firmware's menu does
        self.manager.start()
        self.assert_locked("wrong-chip", "it was cleared in the firmware, or exchanged",
                           "does not tell which", "Nothing is lost",
                           "vtpmctl recover --recovery-key")
        self.ctl("recover", "--yes", "--recovery-key", self.key)
        self.assertEqual(self.stored(), b"one")
        self.free()
        self.restart()
        self.assertEqual(self.stored(), b"one")

    def test_the_cell_was_removed(self):
        self.store(b"one")
        self.free()
        self.manager.stop()
        self.tpm2("tpm2_nvundefine", "0x01800100")
        self.manager.start()
        self.assert_locked("wrong-cell", "vtpmctl recover")
        self.ctl("recover", "--yes", "--recovery-key", self.key)
        self.assertEqual(self.stored(), b"one")

    def test_no_chip_command_for_a_write(self):
        with self.hold(self.web1) as holder, self.attach(holder) as engine:
            sequence = engine.load().sequence
            self.chip.stop()
            for n in range(20):
                sequence = engine.commit(sequence, (frames.PERMANENT, b"%d" % n))
            self.assertEqual(sequence, 20)
        self.chip.start()


if __name__ == "__main__":
    unittest.main()
