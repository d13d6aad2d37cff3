#!/usr/bin/env python3
"""Reads the built programs and holds what they link against docs/architecture.md.

    links.py BUILD_DIR [TREE]

The NEEDED list of an ELF file says something about the code because we link with --as-needed. Every
program of the table has to be there. And what a library is to find in a program instead of the C
library's has to be visible to it.
"""

import fnmatch
import re
import subprocess
import sys
from pathlib import Path

from tree import names, report, table


# Without it libtpms takes the host's time, and the filter kills the engine where that is a system call.
VISIBLE = {"vtpm-engine": "gettimeofday", "vtpm-swtpm-engine": "gettimeofday"}


def needed(program):
    """The libraries that the dynamic linker loads for this program itself."""
    listing = subprocess.run(["readelf", "--dynamic", "--wide", program], capture_output=True,
                             text=True, check=True).stdout
    return re.findall(r"\(NEEDED\)\s+Shared library: \[([^\]]+)\]", listing)


def shows(program, function):
    listing = subprocess.run(["readelf", "--dyn-syms", "--wide", program], capture_output=True,
                             text=True, check=True).stdout
    return re.search(rf"GLOBAL DEFAULT +[0-9]+ {function}$", listing, re.M) is not None


def check_program(build, name, forbidden):
    found = [path for path in (build / "daemons" / name, build / name) if path.is_file()]
    if not found:
        return [f"{name} is not built in {build}"]
    libraries = needed(found[0])
    if not libraries:
        return [f"{name} links nothing at all, which cannot be true"]
    if name in VISIBLE and not shows(found[0], VISIBLE[name]):
        return [f"{name} shows libraries no {VISIBLE[name]}() of its own"]
    # The table names libraries without their version: `libxen*` means libxenstore.so.4.
    return [f"{name} links {library}, which docs/architecture.md forbids ({pattern})"
            for library in libraries for pattern in sorted(forbidden)
            if fnmatch.fnmatch(library.split(".so")[0], pattern)]


def main(arguments):
    if len(arguments) < 2:
        raise SystemExit(__doc__)
    build = Path(arguments[1])
    root = Path(arguments[2] if len(arguments) > 2 else Path(__file__).parents[2])
    problems = []
    for row in table(root, "program"):
        for name in names(row[0]):
            problems += check_program(build, name, names(row[2]))
    return report("links", problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
