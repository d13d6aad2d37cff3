#!/usr/bin/env python3
"""The hotplug script config/vtpm against a systemctl and a logger that only take notes."""

import os
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "config/vtpm"

SYSTEMCTL = """#!/bin/sh
echo "$*" >>"$NOTES/systemctl"
case $1 in
    show) if [ -s "$NOTES/states" ]; then
              head -n 1 "$NOTES/states"; sed -i 1d "$NOTES/states"
          else
              echo inactive
          fi ;;
    --no-block) [ ! -e "$NOTES/broken" ] ;;
esac
"""
LOGGER = """#!/bin/sh
echo "$*" >>"$NOTES/logger"
"""


class Hotplug(unittest.TestCase):
    def setUp(self):
        self.notes = Path(tempfile.mkdtemp(prefix="xen-vtpm-hotplug."))
        self.addCleanup(shutil.rmtree, self.notes)
        (self.notes / "bin").mkdir()
        for name, text in (("systemctl", SYSTEMCTL), ("logger", LOGGER),
                           ("sleep", "#!/bin/sh\n")):
            program = self.notes / "bin" / name
            program.write_text(text, encoding="utf-8")
            program.chmod(0o755)

    def run_script(self, *arguments, **environment):
        return subprocess.run(
            ["/bin/sh", SCRIPT, *arguments], capture_output=True, text=True, check=False,
            env={"PATH": f"{self.notes}/bin:{os.environ['PATH']}", "NOTES": str(self.notes),
                 **environment}).returncode

    def noted(self, name):
        path = self.notes / name
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def test_add_starts_the_unit_without_waiting(self):
        self.assertEqual(self.run_script("add", XENBUS_PATH="backend/vtpm/7/0"), 0)
        self.assertIn("--no-block start vtpmd@7-0.service\n", self.noted("systemctl"))

    def test_the_largest_numbers_are_taken(self):
        self.assertEqual(self.run_script("add", XENBUS_PATH="backend/vtpm/32751/255"), 0)
        self.assertIn("start vtpmd@32751-255.service\n", self.noted("systemctl"))

    def test_remove_leaves_a_unit_alone_that_ends_by_itself(self):
        (self.notes / "states").write_text("active\nactive\ndeactivating\ninactive\n",
                                           encoding="utf-8")
        self.assertEqual(self.run_script("remove", XENBUS_PATH="backend/vtpm/7/0"), 0)
        self.assertNotIn("stop", self.noted("systemctl"))

    def test_remove_stops_a_leftover_and_says_so(self):
        (self.notes / "states").write_text("active\n" * 100, encoding="utf-8")
        self.assertEqual(self.run_script("remove", DEVPATH="/devices/vtpm-7-0"), 0)
        self.assertIn("--no-block stop vtpmd@7-0.service\n", self.noted("systemctl"))
        self.assertIn("still runs", self.noted("logger"))

    def test_anything_else_is_refused_with_a_line_in_the_log(self):
        for path in ["backend/vbd/7/0", "backend/vtpm/7", "backend/vtpm/7/0/1", "backend/vtpm//0",
                     "backend/vtpm/07/0", "backend/vtpm/-7/0", "backend/vtpm/7-1/0",
                     "backend/vtpm/7/0-1", "backend/vtpm/32752/0", "backend/vtpm/7/256",
                     "backend/vtpm/7/ 0", "backend/vtpm/x/0", "backend/vtpm/7/0\n",
                     "backend/vtpm/$(reboot)/0", "backend/vtpm/7;reboot/0", "../backend/vtpm/7/0",
                     "backend/vtpm/99999999999999999999/0", "x" * 5000]:
            with self.subTest(path=path):
                self.assertEqual(self.run_script("add", XENBUS_PATH=path), 1)
                self.assertEqual(self.noted("systemctl"), "")
                log = self.noted("logger")
                self.assertIn("refused to add a vTPM", log)
                self.assertEqual(len(log.splitlines()), 1)
                self.assertLess(len(log), 250)
                (self.notes / "logger").unlink()

    def test_an_event_that_names_nothing_is_refused(self):
        self.assertEqual(self.run_script("add"), 1)
        self.assertEqual(self.run_script("add", DEVPATH="/devices/vbd-7-51712"), 1)
        self.assertEqual(self.noted("systemctl"), "")

    def test_a_bad_command_line_is_refused(self):
        for arguments in [(), ("explode",), ("add", "7-0")]:
            self.assertEqual(self.run_script(*arguments, XENBUS_PATH="backend/vtpm/7/0"), 1)
        self.assertEqual(self.noted("systemctl"), "")
        self.assertIn("usage", self.noted("logger"))

    def test_a_unit_that_cannot_start_is_reported(self):
        (self.notes / "broken").touch()
        self.assertEqual(self.run_script("add", XENBUS_PATH="backend/vtpm/7/0"), 1)
        self.assertIn("guest 7-0 gets no TPM", self.noted("logger"))

    def test_coldplug_starts_what_is_there_and_passes_over_the_rest(self):
        devices = self.notes / "devices"
        for name in ["vtpm-3-0", "vtpm-12-1", "vbd-3-51712", "vtpm-x-0", "vif-3-0"]:
            (devices / name).mkdir(parents=True)
        self.assertEqual(self.run_script("coldplug", str(devices)), 0)
        started = [line.split()[-1] for line in self.noted("systemctl").splitlines()
                   if line.startswith("--no-block start")]
        self.assertEqual(sorted(started), ["vtpmd@12-1.service", "vtpmd@3-0.service"])
        self.assertIn("passed over", self.noted("logger"))

    def test_coldplug_without_xen_is_silent(self):
        self.assertEqual(self.run_script("coldplug", str(self.notes / "none")), 0)
        self.assertEqual(self.noted("logger"), "")


if __name__ == "__main__":
    unittest.main()
