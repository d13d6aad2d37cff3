"""What lies in the manager's memory after each thing that it can be asked: no secret that it has no use
for any more, and no other one where it could be swapped out."""

import re
import unittest
from pathlib import Path

from whole_api import WholeApi

PIECE = 1 << 20
HEADER = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)$")


def regions(process):
    """(begin, end, name, whether it is locked) of all memory that can be read."""
    found = []
    for line in Path(f"/proc/{process}/smaps").read_text(encoding="ascii").splitlines():
        header = HEADER.match(line)
        if header:
            begin, end, rights, name = header.groups()
        elif line.startswith("VmFlags:") and rights[0] == "r" and name not in ("[vvar]", "[vsyscall]"):
            found.append((int(begin, 16), int(end, 16), name or "anonymous", " lo" in line))
    return found


def search(process, secrets):
    """{name: [(region, whether it is locked)]} of those that are there, either way round."""
    needles = [(name, form) for name, value in secrets.items() for form in (value, value[::-1])]
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


if __name__ == "__main__":
    unittest.main()
