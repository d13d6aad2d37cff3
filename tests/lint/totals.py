#!/usr/bin/env python3
"""Reads a file that ctest --output-junit wrote.

  totals.py FILE               prints "PASSED FAILED SKIPPED"
  totals.py --failures FILE    prints the last lines of each failed test's output

A test that could not run (no such program, a fixture that failed) has failed, whatever the file's own
totals say; skipped are those that said so themselves, and those that are disabled.
"""

import sys
import xml.etree.ElementTree as ElementTree

LAST_LINES = 40


def verdict(case):
    """"passed", "failed" or "skipped"."""
    status = case.get("status")
    skipped = case.find("skipped")
    message = skipped.get("message", "") if skipped is not None else ""
    if status == "run":
        return "passed"
    if status == "disabled" or (status == "notrun" and message.startswith("SKIP_")):
        return "skipped"
    return "failed"


def totals(root):
    verdicts = [verdict(case) for case in root.iter("testcase")]
    return tuple(verdicts.count(which) for which in ("passed", "failed", "skipped"))


def failures(root):
    for case in root.iter("testcase"):
        if verdict(case) == "failed":
            lines = (case.findtext("system-out") or "").strip().splitlines()
            yield "\n".join([f"---- {case.get('name')}", *lines[-LAST_LINES:]])


if __name__ == "__main__":
    tree = ElementTree.parse(sys.argv[-1]).getroot()
    if sys.argv[1] == "--failures":
        print(*failures(tree), sep="\n")
    else:
        print(*totals(tree))
