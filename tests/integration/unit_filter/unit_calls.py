#!/usr/bin/env python3
"""Prints the system calls that a systemd unit's SystemCallFilter allows, one a line.

    unit_calls.py UNIT [CALL...]     and these
"""

import subprocess
import sys
from pathlib import Path


def calls_of(name):
    """A call, or those of a @group, with the groups inside it."""
    if not name.startswith("@"):
        return {name}
    listing = subprocess.run(["systemd-analyze", "--no-pager", "syscall-filter", name],
                             capture_output=True, text=True, check=True).stdout
    words = [line.strip() for line in listing.splitlines()[1:] if not line.strip().startswith("#")]
    return set().union(*(calls_of(word) for word in words if word))


def allowed(unit):
    """As systemd.exec(5) says: lines add up, "~" takes away."""
    calls = set()
    for line in Path(unit).read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition("=")
        if key != "SystemCallFilter":
            continue
        named = set().union(*(calls_of(word) for word in value.lstrip("~").split()))
        calls = calls - named if value.startswith("~") else calls | named
    return calls


if __name__ == "__main__":
    print(*sorted(allowed(sys.argv[1]) | set(sys.argv[2:])), sep="\n")
