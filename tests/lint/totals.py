#!/usr/bin/env python3
"""Reads a file that ctest --output-junit wrote.

  totals.py FILE               prints "PASSED FAILED SKIPPED"
  totals.py --failures FILE    prints, of each failed test's output, what Catch2 says of the first failed
                               assertions, and the last lines

A test that could not run (no such program, a fixture that failed) has failed, whatever the file's own
totals say; skipped are those that said so themselves, and those that are disabled.
"""

import sys
import xml.etree.ElementTree as ElementTree

LAST_LINES = 40
# Above Catch2's "FAILED:" are the names of the test and its sections, below it the assertion.
LINES_ABOVE, LINES_BELOW, ASSERTIONS = 12, 10, 3


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


def excerpts(lines):
    """The numbers of the lines to show."""
    asserted = [number for number, line in enumerate(lines) if line.endswith("FAILED:")][:ASSERTIONS]
    for number in range(len(lines)):
        if number >= len(lines) - LAST_LINES or any(-LINES_ABOVE <= number - at <= LINES_BELOW for at in asserted):
            yield number


def failures(root):
    for case in root.iter("testcase"):
        if verdict(case) == "failed":
            yield f"---- {case.get('name')}"
            lines = (case.findtext("system-out") or "").strip().splitlines()
            before = -1
            for number in excerpts(lines):
                if number != before + 1:
                    yield "   ..."
                yield lines[number]
                before = number


if __name__ == "__main__":
    tree = ElementTree.parse(sys.argv[-1]).getroot()
    if sys.argv[1] == "--failures":
        print(*failures(tree), sep="\n")
    else:
        print(*totals(tree))
