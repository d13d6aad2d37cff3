"""What lies in the manager's memory after each thing that it can be asked: no secret that it has no use
for any more, and no other one where it could be swapped out."""

import re
import unittest
from pathlib import Path

import rig
from latch_test import Store
from secrets_of import Secrets
from whole_api import WholeApi

PIECE = 1 << 20
HEADER = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$")


def regions(process):
    """(begin, end, name, whether it is locked) of all memory that it has ever been able to write."""
    found = []
    for line in Path(f"/proc/{process}/smaps").read_text(encoding="ascii").splitlines():
        header = HEADER.match(line)
        if header:
            begin, end, rights, name = header.groups()
        elif line.startswith("VmFlags:") and ("w" in rights or "memfd:" in name):
            found.append((int(begin, 16), int(end, 16), name or "anonymous", " lo" in line))
    return found


def search(process, secrets):
    """{name: [(region, whether it is locked)]} of those that are there, either way round.

    Half of one counts: malloc writes over the beginning of what it is given back.
    """
    needles = [(name, form[at:at + 16]) for name, value in secrets.items()
               for form in (value, value[::-1]) for at in (0, len(value) - 16)]
    overlap = max(len(form) for _, form in needles)
    hits = {}
    with open(f"/proc/{process}/mem", "rb", buffering=0) as memory:
        for begin, end, where, locked in regions(process):
            for at in range(begin, end, PIECE):
                try:
                    memory.seek(at)
                    content = memory.read(min(PIECE + overlap, end - at))
                except OSError:
                    continue  # past the end of a file that is mapped
                for name, form in needles:
                    if form in content:
                        hits.setdefault(name, []).append((where, locked))
    return hits


class Memory(WholeApi):
    def looked(self, step):
        wanted = {**self.secrets.held, **{name: key for name, key in self.secrets.groups.items()
                                          if name not in self.closed}}
        process = self.manager.process.pid
        may = set(wanted.values())
        hits = search(process, {**self.ever, **wanted})
        left = {name: where for name, where in hits.items()
                if name in self.ever and self.ever[name] not in may}
        self.assertEqual(left, {}, f"after {step}")
        # The search finds what is there.
        for name in ("root key", "K_meta", *(g for g in self.secrets.groups if g not in self.closed)):
            self.assertIn(name, hits, f"after {step}")
        loose = {name: where for name, where in hits.items() if not all(lock for _, lock in where)}
        self.assertEqual(loose, {}, f"after {step}: in memory that is not locked")
        self.looks += 1

    def test_after_each_step(self):
        self.looks = 0
        self.tell()
        self.assertGreater(self.looks, 15)
        print(f"memory: {len(self.ever)} secrets, {self.looks} times", flush=True)


class Kept(rig.RigTest):
    """What the manager has in the descriptor store, it has in its own memory, too."""

    ready = False

    def setUp(self):
        super().setUp()
        self.store = Store(self.directory / "notify")
        self.addCleanup(self.store.close)
        self.key = self.directory / "recovery"
        self.manager.stop()
        self.manager.start(self.store.launcher())
        self.ctl("setup", "--recovery-out", self.key)

    def test_the_kept_keys_are_locked_and_the_old_ones_gone(self):
        self.ctl("group", "create", "tenant")
        for step in (("rotate", "--group", "tenant"), ("rotate", "--root"),
                     ("group", "close", "tenant"), ("group", "delete", "tenant", "--yes")):
            before = Secrets(self.manager.state, self.key)
            self.ctl(*step)
            after = Secrets(self.manager.state, self.key)
            with self.subTest(step=step):
                self.look(before, after, "tenant" in step and step[1] == "close")
        self.manager.kill()
        self.manager.start(self.store.launcher())
        self.assertEqual(self.json("status")["state"], "open")
        self.look(after, after, False)

    def look(self, before, after, closed):
        hits = search(self.manager.process.pid, {**before.all(), **after.all()})
        self.assertTrue(all(lock for where in hits.values() for _, lock in where), hits)
        self.assertIn("memfd:xen-vtpm-keys",
                      "".join(where for where, _ in hits[next(n for n in hits if "root key" in n)]))
        groups = {name: key for name, key in after.groups.items() if not (closed and name == "tenant")}
        may = {*after.held.values(), *groups.values()}
        every = {**before.all(), **after.all()}
        self.assertEqual({name for name in hits if every[name] not in may}, set())


if __name__ == "__main__":
    unittest.main()
