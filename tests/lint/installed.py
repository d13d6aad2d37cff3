#!/usr/bin/env python3
"""What an installation holds: the programs of docs/architecture.md, and nothing that tests are made of.

    installed.py BUILD_DIR [TREE]

The containment drill is an engine that runs hostile code: it must not be shipped under any name.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tree import names, report, table

# What the drill's engine alone has in it: the variable that chooses an escape.
DRILL = b"VTPM_DRILL"


def installed(build, scratch):
    run = subprocess.run(["cmake", "--install", build], capture_output=True, text=True, check=False,
                         env={**os.environ, "DESTDIR": scratch})
    if run.returncode:
        raise SystemExit(f"installed: cmake --install failed: {run.stderr.strip()[-500:]}")
    return [path for path in Path(scratch).rglob("*") if path.is_file()]


def check(build, root):
    expected = {name for row in table(root, "program") for name in names(row[0])}
    with tempfile.TemporaryDirectory() as scratch:
        programs = set()
        for path in installed(build, scratch):
            content = path.read_bytes()
            if content.startswith(b"\x7fELF") and not path.is_symlink():
                programs.add(path.name)
            if DRILL in content:
                yield f"{path.name} has the containment drill in it"
    for name in sorted(programs ^ expected):
        yield f"{name}: installed, or in docs/architecture.md, but not both"


def main(arguments):
    if len(arguments) < 2:
        raise SystemExit(__doc__)
    root = Path(arguments[2] if len(arguments) > 2 else Path(__file__).parents[2])
    drills = [path for path in Path(arguments[1]).rglob("vtpm-engine-drill") if path.is_file()]
    problems = list(check(arguments[1], root))
    if not any(DRILL in path.read_bytes() for path in drills):
        problems.append("vtpm-engine-drill is not built, or no longer known by its variable")
    return report("installed", problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
