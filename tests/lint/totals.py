#!/usr/bin/env python3
"""Prints "PASSED FAILED SKIPPED" of a file that ctest --output-junit wrote.

A test that could not run (no such program, a fixture that failed) has failed, whatever the file's own
totals say; skipped are those that said so themselves, and those that are disabled.
"""

import sys
import xml.etree.ElementTree as ElementTree


def totals(root):
    passed = failed = skipped = 0
    for case in root.iter("testcase"):
        status = case.get("status")
        message = (case.find("skipped").get("message", "") if case.find("skipped") is not None
                   else "")
        if status == "run":
            passed += 1
        elif status == "disabled" or (status == "notrun" and message.startswith("SKIP_")):
            skipped += 1
        else:
            failed += 1
    return passed, failed, skipped


if __name__ == "__main__":
    print(*totals(ElementTree.parse(sys.argv[1]).getroot()))
