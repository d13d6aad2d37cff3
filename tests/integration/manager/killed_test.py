"""The shipped vtpmmgrd, killed at each system call that writes, or told that it has failed.

strace does it (inject=). In half of the kills the chip loses power, too. Then the manager starts on
what is there: it opens, nothing that was acknowledged is missing, and copies of the directory from
before the last commit are refused. VTPM_TEST_STRIDE=1: at each call; else a sample of them.
"""

import collections
import os
import re
import shutil
import time
import unittest

import ledger
import rig
from ledger import A, B

CALLS = ("pwrite64", "write", "fdatasync", "fsync", "ftruncate", "unlink", "renameat2", "mkdir")
ERRORS = [(call, error) for call in CALLS for error in ("EIO", "ENOSPC")
          if call != "write" and (error == "EIO" or call in ("pwrite64", "mkdir", "fdatasync"))]
STRIDE = int(os.environ.get("VTPM_TEST_STRIDE", "23"))
SEED = int(os.environ.get("VTPM_TEST_SEED", "11"))
VTPMMGRD = rig.PROGRAMS / "vtpmmgrd"


class Killed(rig.RigTest):
    ready = False

    def begin(self, *strace):
        """A new host and chip, and a manager under strace."""
        if self.manager.running():
            self.manager.kill()
        self.chip.stop()
        for place in (self.chip.state, self.manager.state):
            shutil.rmtree(place, ignore_errors=True)
        for copy in self.directory.glob("copy*"):
            shutil.rmtree(copy)
        self.chip.state.mkdir()
        self.chip.start()
        self.ledger = ledger.Ledger(self.manager)
        self.copies = []  # (directory, epoch, what is in it)
        try:
            self.manager.start(("strace", "-D", "-f", *strace, VTPMMGRD))
        except AssertionError:
            self.assertFalse(self.manager.running())  # killed before it listens

    def keep_copy(self):
        if len(self.ledger.possible) > 1 or self.ledger.possible[0] is None:
            return
        phase, epoch, _ = self.ledger.status()
        if phase != "open":
            return
        copy = self.directory / f"copy{len(self.copies)}"
        shutil.copytree(self.manager.state, copy)
        self.copies.append((copy, epoch, self.ledger.possible[0]))

    def live(self):
        """A short life of a host; to its end, or the manager's."""
        book = self.ledger
        try:
            if not book.set_up():
                book.set_up()
            for act in (lambda: book.create(A, "a"), lambda: book.store(A, b"one"),
                        lambda: book.store(A, b"two" * 2000), lambda: book.rename(A, "aa"),
                        lambda: book.create(B, "b"), lambda: book.store(B, b"state of b"),
                        lambda: book.remove(B), lambda: book.store(A, b"three")):
                if any(state is not None for state in book.possible):
                    act()
                    self.keep_copy()
            self.assertIn(book.read(), book.possible)
        except ledger.GONE:
            rig.eventually(lambda: not self.manager.running())

    def end(self, power_cut):
        if self.manager.running():
            self.manager.kill()
        if power_cut:
            self.chip.stop()
            self.chip.start()
        self.manager.start()
        state = self.ledger.read()
        self.assertIn(state, self.ledger.possible)
        if state is None:
            return
        self.ledger.possible = [state]
        _, epoch, _ = self.ledger.status()
        self.put_back(epoch, state)

    def put_back(self, epoch, state):
        """Older copies; and the right one again."""
        self.manager.kill()
        right = self.directory / "right"
        shutil.rmtree(right, ignore_errors=True)
        shutil.copytree(self.manager.state, right)
        chosen = self.copies if STRIDE == 1 else self.copies[:1] + self.copies[1:][-1:]
        for copy, its_epoch, its_state in chosen:
            shutil.rmtree(self.manager.state)
            shutil.copytree(copy, self.manager.state)
            self.manager.start()
            phase, _, reason = self.ledger.status()
            if its_epoch < epoch:
                self.assertEqual((phase, reason), ("locked", "rolled-back"), its_state)
                self.refused += 1
            elif phase == "open":
                self.assertEqual(self.ledger.read(), its_state)
                self.assertEqual(its_state, state)  # nothing was written since, or it was folded
            self.manager.kill()
        shutil.rmtree(self.manager.state)
        shutil.copytree(right, self.manager.state)
        self.manager.start()
        self.assertEqual(self.ledger.read(), state)
        self.assertTrue(self.ledger.store(A, b"afterwards") if A in state else True)

    def count(self):
        """How often each of the calls is made in such a life."""
        trace = self.directory / "trace"
        self.begin("-o", str(trace), "-e", "trace=" + ",".join(CALLS))
        self.live()
        self.assertEqual(self.ledger.failures, [])
        self.assertEqual(self.manager.stop(), 0)
        rig.eventually(lambda: "+++ exited" in trace.read_text(errors="replace"))
        calls = collections.Counter(re.findall(r"^\d+ +(\w+)\(", trace.read_text(errors="replace"),
                                               re.MULTILINE))
        self.assertEqual(set(calls), set(CALLS))
        return calls

    def sample(self, faults):
        """(call, fault, n) of all, or of every STRIDEth."""
        calls = self.count()
        every = [(call, fault, n) for call, fault in faults for n in range(1, calls[call] + 1)]
        return every[SEED % STRIDE::STRIDE]

    def inject(self, faults):
        self.refused = failures = 0
        began, chosen = time.monotonic(), self.sample(faults)
        for number, (call, fault, n) in enumerate(chosen):
            with self.subTest(call=call, fault=fault, when=n):
                self.begin("-o", "/dev/null", "-e", f"trace={call}",
                           "-e", f"inject={call}:{fault}:when={n}")
                self.live()
                failures += bool(self.ledger.failures)
                self.end(power_cut=number % 2 == 0)
        print(f"{len(chosen)} faults, {failures} seen by who asked, {self.refused} older copies "
              f"refused, {time.monotonic() - began:.0f} s", flush=True)
        self.assertGreater(self.refused, len(chosen) // 3)
        # What only a start meets is tried again for who asks.
        self.assertGreater(failures, len(chosen) // 8)

    def test_killed(self):
        self.inject([(call, "signal=KILL") for call in CALLS])

    def test_told_that_it_failed(self):
        self.inject([(call, f"error={error}") for call, error in ERRORS])


if __name__ == "__main__":
    unittest.main()
