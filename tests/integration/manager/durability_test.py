"""kill -9 at any moment: what was acknowledged is there, and nothing but what was asked for."""

import random
import threading
import time
import unittest

import frames
import rig
from frames import PERMANENT, SAVED

ROUNDS = 30
SETUPS = 12


class Durability(rig.RigTest):
    def setUp(self):
        super().setUp()
        self.random = random.Random(30)

    def blob(self):
        return self.random.randbytes(self.random.choice((1, 200, 5_000, 70_000, 400_000)))

    def test_commits(self):
        web1 = self.create("web1")
        possible = [(0, {})]  # what may be there: the last acknowledged, and one in flight
        for turn in range(ROUNDS):
            engine = self.attach(self.hold(web1))
            loaded = engine.load()
            now = (loaded.sequence, loaded.blobs)
            self.assertIn(now, possible, f"round {turn}")
            sequence, blobs = now
            for _ in range(self.random.randrange(1, 4)):
                change = (self.random.choice((PERMANENT, SAVED)) if sequence else PERMANENT,
                          self.blob())
                sequence, before = engine.commit(sequence, change), sequence
                self.assertEqual(sequence, before + 1)
                blobs = blobs | dict([change])
            possible = [(sequence, blobs)]
            if turn % 2:
                change = (PERMANENT, self.blob())
                engine.send(*frames.commit(sequence, change))
                time.sleep(self.random.uniform(0, 0.01))
                possible.append((sequence + 1, blobs | dict([change])))
            self.manager.kill()
            self.manager.start()
        engine = self.attach(self.hold(web1))
        loaded = engine.load()
        self.assertIn((loaded.sequence, loaded.blobs), possible)
        self.assertGreater(loaded.sequence, ROUNDS - 1)
        self.assertEqual(self.json("show", web1)["sequence"], loaded.sequence)

    def test_a_commit_in_flight_may_be_repeated(self):
        web1 = self.create("web1")
        sequence = 0
        for _ in range(8):
            change = (PERMANENT, self.blob())
            with self.hold(web1) as holder, self.attach(holder) as engine:
                engine.send(*frames.commit(sequence, change))
                time.sleep(self.random.uniform(0, 0.005))
                self.manager.kill()
            self.manager.start()
            with self.hold(web1) as holder, self.attach(holder) as engine:
                self.assertEqual(engine.commit(sequence, change), sequence + 1)
                loaded = engine.load()
            sequence += 1
            self.assertEqual((loaded.sequence, loaded.blobs), (sequence, dict([change])))
            rig.eventually(lambda: self.json("status")["in_use"] == 0)

    def test_the_table(self):
        names = {}
        for turn in range(8):
            made = self.create(f"guest{turn}")
            names[str(made)] = f"guest{turn}"
            self.manager.kill()
            self.manager.start()
            self.ctl("rename", made, f"renamed{turn}")
            names[str(made)] = f"renamed{turn}"
            self.manager.kill()
            self.manager.start()
            if turn % 2:
                self.ctl("delete", made, "--yes")
                del names[str(made)]
                self.manager.kill()
                self.manager.start()
            self.assertEqual({one["uuid"]: one["name"] for one in self.json("list")}, names)


class SettingUp(rig.RigTest):
    ready = False

    def test_a_setup_that_is_cut_short(self):
        began = time.monotonic()
        self.ctl("setup")
        takes = time.monotonic() - began
        for turn in range(SETUPS):
            self.manager.kill()
            self.chip.stop()
            for state in (self.manager.state, self.chip.state):
                rig.shutil.rmtree(state, ignore_errors=True)
            self.chip.state.mkdir()
            self.chip.start()
            self.manager.start()
            peer = self.connect()
            peer.send(frames.request(frames.SETUP))
            # The last steps, on the disk, are a short time at the end: look there above all.
            cut = takes * (turn / SETUPS if turn % 3 == 0 else 0.9 + 0.15 * turn / SETUPS)
            killer = threading.Timer(cut, self.manager.kill)
            killer.start()
            killer.join()
            self.manager.start()
            with self.subTest(cut=cut):
                state = self.json("status")["state"]
                self.assertIn(state, ("not-set-up", "open"))
                self.ctl("setup")
                self.create("web1")
                self.assertEqual(set(self.files()) - {"vault.db-wal"}, {"vault.db", "set-up"})


if __name__ == "__main__":
    unittest.main()
