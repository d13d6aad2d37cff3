"""New keys while guests run: the chip takes long for them, and engines do not wait for all of it."""

import select
import threading
import time
import unittest

import frames
import rig
from frames import PERMANENT
from tap import Tap

GROUPS = 8
WAITING = 256  # Manager::max_waiting


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

    def rotate_slowly(self, code=rig.DONE, seconds=0.05):
        """Begins to give the vault a new key, of many groups; the thread that waits for that."""
        for number in range(GROUPS):
            self.ctl("group", "create", f"g{number}")

        def slow(_number, _command, pass_on):
            time.sleep(seconds)
            return pass_on()
        self.tap.arm(slow)
        self.rotated = []
        thread = threading.Thread(
            target=lambda: self.rotated.append(self.ctl("rotate", "--root", code=code)))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.tap.release)
        rig.eventually(lambda: self.tap.commands > 8)
        return thread

    def end_of(self, thread):
        self.assertTrue(thread.is_alive(), "it was too fast")
        self.tap.release()
        thread.join()
        self.assertTrue(self.rotated, "the rotation failed")

    def test_a_guest_goes_on_meanwhile_and_another_is_told_to_wait(self):
        holder = self.hold(self.create("web1"))
        web2 = self.create("web2")
        other = self.connect()
        thread = self.rotate_slowly()
        engine = self.attach(holder)
        self.assertEqual(engine.commit(0, (PERMANENT, b"x")), 1)
        failure = self.assert_failure(other.ask(frames.open_instance(web2.bytes)), "locked")
        self.assertEqual(failure.next, "retry-later")
        self.end_of(thread)
        self.hold(web2)
        self.assertEqual(engine.commit(1, (PERMANENT, b"y")), 2)
        done = [line["who"] for line in self.json("log") if line["what"] == "rotate-root"]
        self.assertEqual(len(done), 1)
        self.assertNotIn("vtpmd", done[0])

    def test_what_nobody_waits_for_any_more_is_not_done(self):
        holder = self.hold(self.create("web1"))
        self.create("given-up")
        self.create("waited-for")
        impatient, patient = self.connect(), self.connect(60)
        thread = self.rotate_slowly()
        for peer, name in ((impatient, "given-up"), (patient, "waited-for")):
            peer.send(frames.request(frames.REMOVE, frames.message((1, name))))
        self.attach(holder)
        self.attach(holder)  # by now both were read
        impatient.close()
        self.end_of(thread)
        self.assertIsNone(frames.failure_of(patient.receive()))
        self.ctl("show", "given-up")
        self.ctl("show", "waited-for", code=rig.NOT_FOUND)

    def test_no_more_than_some_requests_wait(self):
        peers = [self.connect(60) for _ in range(WAITING + 1)]
        thread = self.rotate_slowly(seconds=0.1)
        for peer in peers:
            peer.send(frames.request(frames.LIST))
        refused = self.one_that_is_answered(peers)
        self.assertEqual(self.assert_failure(refused.receive(), "too-large").next, "retry-later")
        self.end_of(thread)
        for peer in peers:
            if peer is not refused:
                self.assertIsNone(frames.failure_of(peer.receive()))

    @staticmethod
    def one_that_is_answered(peers):
        ready, _, _ = select.select([peer.socket for peer in peers], [], [], 20)
        return next(peer for peer in peers if peer.socket in ready)

    def test_told_to_end_it_ends(self):
        engine = self.attach(self.hold(self.create("web1")))
        engine.load()
        thread = self.rotate_slowly(code=(rig.REFUSED, rig.NO_MANAGER, rig.LOCKED))
        self.assertEqual(engine.commit(0, (PERMANENT, b"x")), 1)
        self.assertEqual(self.manager.stop(), 0, self.manager.text())
        thread.join()
        self.tap.release()
        self.manager.start()
        self.assertEqual(self.json("status")["state"], "open")
        self.assertNotIn("rotate-root", [line["what"] for line in self.json("log")])
        self.assertEqual(self.json("show", "web1")["sequence"], 1)
        self.ctl("rotate", "--root")

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
