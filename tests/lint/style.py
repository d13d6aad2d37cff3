#!/usr/bin/env python3
"""House rules that a machine can hold.

    style.py [TREE]

Source files of at most 400 lines; nothing left to do in the text; no name of the machine it was
written on or of a package registry; no parsing of numbers that cannot say no; clang-format.
"""

import re
import subprocess
import sys
from pathlib import Path

from tree import SOURCE_SUFFIXES, files, report

MAX_LINES = 400
LONG_BY_NATURE = {"LICENSE"}

# Split, so that this file keeps its own rules.
ANYWHERE = [
    (r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b", "finish it or write it into an issue"),
    (r"(?<![\w.])/wo" r"rk(?=[/\s\"'`)]|$)", "names a directory of one machine"),
    (r"(?<![\w.])/(home|Users)/[a-z]", "names a directory of one machine"),
    (r"\b(deb|snapshot|security|ftp(\.\w+)?)\.debi" r"an\.org\b|\bpy" r"pi\.org\b|\bcrates" r"\.io\b"
     r"|\bnpm" r"js\.(org|com)\b|\bproxy\.gola" r"ng\.org\b", "names a package registry"),
]
IN_SOURCES = [
    (r"\busing\s+namespace\s+std\s*;", "names what it uses instead"),
]
# Text from outside reaches what is shipped; a test may use what throws.
IN_PROGRAMS = [
    (r"\b(v?[sf]?scanf|ato[filq]l?|(std::)?sto(i|l|ll|ul|ull|f|d|ld)|strto(u?ll?|[fd]|ld))\s*\(",
     "parses without a bound or without an error; use std::from_chars"),
]


def check_text(name, text, rules):
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, reason in rules:
            if re.search(pattern, line):
                yield f"{name}:{number}: {reason}: {line.strip()[:80]}"


def check_format(root, sources):
    for start in range(0, len(sources), 50):
        batch = sources[start:start + 50]
        run = subprocess.run(["clang-format", "--dry-run", "-Werror", "--style=file", *batch],
                             capture_output=True, text=True, check=False, cwd=root)
        seen = set()
        for line in run.stderr.splitlines():
            match = re.match(r"(.+?):(\d+):\d+: error: ", line)
            if match and match.group(1) not in seen:
                seen.add(match.group(1))
                yield f"{match.group(1)}:{match.group(2)}: clang-format would change this"
        if run.returncode and not seen:
            yield f"clang-format: {run.stderr.strip()[:200]}"


def main(arguments):
    root = Path(arguments[1] if len(arguments) > 1 else Path(__file__).parents[2]).resolve()
    problems = []
    sources = []
    for path in files(root):
        name = str(path.relative_to(root))
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # test data
        long_by_nature = path.name in LONG_BY_NATURE or path.suffix == ".8"  # a manual
        if len(text.splitlines()) > MAX_LINES and not long_by_nature:
            problems.append(f"{name}: {len(text.splitlines())} lines; at most {MAX_LINES}")
        problems += check_text(name, text, ANYWHERE)
        if path.suffix in SOURCE_SUFFIXES:
            sources.append(name)
            problems += check_text(name, text, IN_SOURCES)
            if name.startswith(("src/", "include/", "daemons/")):
                problems += check_text(name, text, IN_PROGRAMS)
    problems += check_format(root, sources)
    return report("style", problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
