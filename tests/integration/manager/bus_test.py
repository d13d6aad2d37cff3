"""A chip's answers that are lost, late, repeated, changed, forged, or a refusal; at every command.

The manager answers within seconds, loses nothing, says in its status what is wrong, and goes on by
itself when it is over. VTPM_TEST_STRIDE=1: each fault at each command; else a sample of them.
"""

import os
import time
import unittest

import frames
import ledger
import rig
import tap
from ledger import A, B

STRIDE = int(os.environ.get("VTPM_TEST_STRIDE", "29"))
SEED = int(os.environ.get("VTPM_TEST_SEED", "5"))
PATIENCE = 10  # seconds that somebody who asks waits

FAULTS = {
    "the command is lost": lambda pass_on: tap.CUT,
    "the answer is lost": lambda pass_on: (pass_on(), tap.CUT)[1],
    "late": tap.late,
    "twice": lambda pass_on: pass_on() * 2,
    "done twice": lambda pass_on: (pass_on(), pass_on())[1],
    "cut short": lambda pass_on: pass_on()[:-1],
    "a bit of the code": lambda pass_on: tap.flip(pass_on(), 9),
    "a bit of the size": lambda pass_on: tap.flip(pass_on(), 5),
    "a bit at the end": lambda pass_on: tap.flip(answer := pass_on(), len(answer) - 1),
    "a bit in the middle": lambda pass_on: tap.flip(answer := pass_on(), len(answer) // 2),
    "a success that is none": lambda pass_on: tap.error(0),
    "nonsense": lambda pass_on: bytes(range(10, 60)),
    "an endless one": lambda pass_on: b"\x80\x01\xff\xff\xff\xff\0\0\0\0",
    **{f"code {code:#x}": lambda pass_on, code=code: tap.error(code)
       for code in (tap.RETRY, tap.NV_RATE, tap.LOCKOUT, tap.TESTING, tap.FAILURE)},
}


class Bus(rig.RigTest):
    def setUp(self):
        super().setUp()
        self.tap = tap.Tap(self.directory, self.chip.socket)
        self.addCleanup(self.tap.close)
        self.assertEqual(self.manager.stop(), 0)
        self.manager.settings["tcti"] = f"swtpm:path={self.tap.path}"
        self.manager.start()
        self.book = ledger.Ledger(self.manager, PATIENCE)
        self.book.possible = [{}]
        self.assertTrue(self.book.create(A, "a"))
        self.number = 0
        self.longest = 0.0

    def timed(self, act, *arguments):
        """Its answer; a time-out is one, too."""
        began = time.monotonic()
        try:
            return act(*arguments)
        finally:
            self.longest = max(self.longest, time.monotonic() - began)

    def reason(self):
        return self.timed(self.book.status)

    def life(self):
        """A guest comes and goes, another one writes: three commits. Uuids are used once."""
        self.number += 1
        which = ledger.uuid.UUID(int=(0xC << 96) + self.number)
        made = self.timed(self.book.create, which, f"c{self.number}")
        self.timed(self.book.store, A, b"state %d" % self.number)
        if made:
            self.timed(self.book.remove, which)

    def settle(self):
        """Nothing is wrong any more: all goes on, and the chip has the newest state."""
        phase, epoch, _ = self.reason()
        self.assertEqual(phase, "open")
        failures = len(self.book.failures)
        self.life()
        self.assertEqual(self.book.failures[failures:], [])
        phase, after, reason = self.reason()
        self.assertEqual((phase, reason), ("open", ""))
        self.assertGreaterEqual(after, epoch + 2)

    def commands(self, act):
        self.tap.arm(None)
        act()
        return self.tap.commands

    def sample(self, count):
        every = [(name, n) for name in FAULTS for n in range(1, count + 1)]
        return every[SEED % STRIDE::STRIDE]

    def report(self, what, began, faults):
        print(f"{what}: {faults} faults, {len(self.book.failures)} seen by who asked, longest answer "
              f"{self.longest:.1f} s, {time.monotonic() - began:.0f} s", flush=True)
        self.assertLess(self.longest, PATIENCE)

    def test_while_it_runs(self):
        began, chosen = time.monotonic(), self.sample(self.commands(self.life))
        seen = 0
        for name, nth in chosen:
            with self.subTest(fault=name, command=nth):
                self.tap.arm(tap.once(nth, FAULTS[name]))
                self.life()
                phase, _, reason = self.reason()
                self.assertEqual(phase, "open")
                seen += reason != ""
                self.tap.release()
                self.settle()
                self.assertIn(self.book.read(), self.book.possible)
        self.report("running", began, len(chosen))
        self.assertGreater(seen, 0)
        self.manager.kill()
        self.manager.start()
        self.assertIn(self.book.read(), self.book.possible)

    def test_at_a_start(self):
        def start():
            self.manager.start()
            return self.reason()  # which waits for the chip, as everybody does
        self.book.store(A, b"0")
        self.manager.kill()
        began, chosen = time.monotonic(), self.sample(self.commands(start))
        seen = 0
        for name, nth in chosen:
            with self.subTest(fault=name, command=nth):
                self.timed(self.book.store, A, b"%d" % nth)  # so that there is something to commit
                self.manager.kill()
                self.tap.arm(tap.once(nth, FAULTS[name]))
                self.manager.log.unlink()
                phase, _, reason = start()
                self.assertTrue(phase == "open" or (phase == "locked" and reason), phase)
                seen += "vault locked" in self.manager.text()
                self.tap.release()
                # Open, and what it could not tidy in the chip at the start is tried again.
                rig.eventually(lambda: self.reason()[::2] == ("open", ""), 15)
                self.assertIn(self.book.read(), self.book.possible)
                self.settle()
        self.report("starting", began, len(chosen))
        self.assertGreater(seen, len(chosen) // 3)

    def test_a_chip_that_spares_its_memory(self):
        def meddle(_number, command, pass_on):
            extends = command[6:10] == tap.NV_EXTEND.to_bytes(4, "big")
            return tap.error(tap.NV_RATE) if extends else pass_on()
        before = self.reason()[1]
        self.tap.arm(meddle)
        for _ in range(3):
            self.life()
        phase, epoch, reason = self.reason()
        self.assertEqual((phase, epoch, reason), ("open", before, "chip"))
        self.assertIn("does not take the commit", self.ctl("status"))
        self.assertEqual(self.book.failures, [])
        self.tap.release()
        # By itself, and nobody asks for anything that would be committed.
        began = time.monotonic()
        rig.eventually(lambda: self.reason()[2] == "", 45)
        self.assertGreater(self.reason()[1], before)
        self.report(f"spared memory, committed {time.monotonic() - began:.0f} s after", began, 1)
        self.settle()

    def test_a_chip_that_never_answers(self):
        # tpm2-tss waits for a swtpm without a bound, and the manager with it: this measures how long
        # somebody who asks has to wait, and holds it to going on once the chip is gone or back.
        self.tap.arm(lambda number, command, pass_on: tap.SILENT)
        began = time.monotonic()
        impatient = ledger.Ledger(self.manager, 3)
        with self.assertRaises(TimeoutError):
            impatient.ask(frames.create("web1", B.bytes))
        with self.assertRaises(TimeoutError):
            impatient.ask(frames.status())
        self.assertTrue(self.manager.running())
        self.tap.release()
        self.assertEqual(self.reason()[0], "open")
        print(f"silent: answers after {time.monotonic() - began:.1f} s, when the chip went", flush=True)
        self.book.possible = [self.book.read()]
        self.assertEqual(self.book.possible[0][B], ("web1", 0, None))
        self.settle()


if __name__ == "__main__":
    unittest.main()
