#!/usr/bin/env python3
"""Proves that each lint can fail: a small tree that passes, and mutants of it that must not."""

import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from totals import failures, totals

HERE = Path(__file__).parent

ARCHITECTURE = """
| program | joins | never links |
| --- | --- | --- |
| `tool` | `wire`, `base` | `libz*`, `libtpms` |

| room | a line belongs here if it... | leans on | libraries |
| --- | --- | --- | --- |
| `base` | is first | - | - |
| `wire` | is second | `base` | - |
| `chip` | is third | `base` | - |
| `vault` | is fourth | `chip/chip.h`, `base` | - |
"""
GOOD = {
    "docs/architecture.md": ARCHITECTURE,
    ".clang-format": "BasedOnStyle: Google\n",
    "include/vtpm/base/a.h": '#pragma once\n#include <tl/expected.hpp>\n',
    "include/vtpm/chip/chip.h": "#pragma once\n",
    "src/wire/b.cpp": '#include "messages.pb.h"\n#include "vtpm/base/a.h"\n',
    "src/vault/c.cpp": '#include <sqlite3.h>\n\n#include "vtpm/chip/chip.h"\n',
    "daemons/tool/main.cpp": '#include <CLI/CLI.hpp>\n\n#include "vtpm/wire/b.h"\n',
    "CMakeLists.txt": "vtpm_room(wire DEPS base LIBS Boost::headers)\n",
    "daemons/CMakeLists.txt": "vtpm_program(tool tool wire base CLI11::CLI11)\n",
}


class Mutants(unittest.TestCase):
    def setUp(self):
        self.root = Path(tempfile.mkdtemp(prefix="xen-vtpm-lint."))
        self.addCleanup(shutil.rmtree, self.root)
        for name, text in GOOD.items():
            self.write(name, text)

    def write(self, name, text):
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def lint(self, name, *arguments):
        return subprocess.run([sys.executable, HERE / f"{name}.py", *arguments],
                              capture_output=True, text=True, check=False)

    def passes(self, name, *arguments):
        run = self.lint(name, *(arguments or [self.root]))
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)

    def fails(self, name, expected, *arguments):
        run = self.lint(name, *(arguments or [self.root]))
        self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
        self.assertIn(expected, run.stdout)

    def mutant(self, name, text, lint, expected):
        with self.subTest(name=name, text=text):
            self.write(name, text)
            self.fails(lint, expected)
            if name in GOOD:
                self.write(name, GOOD[name])
            else:
                (self.root / name).unlink()
            self.passes(lint)


class Rooms(Mutants):
    def test_each_rule_can_fail(self):
        self.passes("rooms")
        for name, text, expected in [
                ("src/base/x.cpp", '#include "vtpm/wire/b.h"\n', "does not lean on wire"),
                ("include/vtpm/wire/x.h", '#  include "vtpm/chip/chip.h"\n', "does not lean on chip"),
                ("src/vault/x.cpp", '#include "vtpm/chip/esys_chip.h"\n', "does not lean on chip"),
                ("daemons/tool/x.cpp", '#include <vtpm/vault/v.h>\n', "does not lean on vault"),
                ("src/helpers/x.cpp", "\n", "no room 'helpers'"),
                ("daemons/other/x.cpp", "\n", "no program 'other'"),
                ("src/wire/x.cpp", "#include <sqlite3.h>\n", "belongs to vault"),
                ("src/wire/x.cpp", "#include <libtpms/tpm_library.h>\n", "belongs to engine"),
                ("src/vault/x.cpp", "#include <tss2/tss2_esys.h>\n", "belongs to chip"),
                ("daemons/tool/x.cpp", "#include <xenstore.h>\n", "belongs to xen"),
                ("src/base/x.h", "#include <seccomp.h>\n", "belongs to jail"),
                ("src/base/x.h", "#include <boost/asio.hpp>\n", "belongs to programs, wire"),
                ("src/vault/x.h", '#include "vtpm/wire/messages.pb.h"\n', "belongs to programs, wire"),
                ("src/wire/x.cpp", "#include <toml++/toml.h>\n", "belongs to programs"),
                ("CMakeLists.txt", "vtpm_room(base DEPS wire)\n", "base links wire"),
                ("CMakeLists.txt", "vtpm_room(util DEPS base)\n", "util is not in"),
                ("daemons/CMakeLists.txt", "vtpm_program(tool tool vault)\n", "tool links vault"),
                ("docs/architecture.md", ARCHITECTURE.replace("`chip/chip.h`", "`attic`"),
                 "'attic', which is no room"),
        ]:
            self.mutant(name, text, "rooms", expected)

    def test_a_tree_without_tables_is_an_error(self):
        self.write("docs/architecture.md", "# The house\n")
        self.assertNotEqual(self.lint("rooms", self.root).returncode, 0)


class Style(Mutants):
    def test_each_rule_can_fail(self):
        self.passes("style")
        for name, text, expected in [
                ("src/base/x.cpp", "int a;\n" * 401, "401 lines"),
                ("packaging/x", "# TO" "DO: later\n", "finish it"),
                ("src/base/x.cpp", "// FIX" "ME\n", "finish it"),
                ("docs/x.md", "see /wo" "rk/main\n", "one machine"),
                ("docs/x.md", "see /ho" "me/jo/x\n", "one machine"),
                ("tests/x.sh", "get http://deb.debi" "an.org/debian\n", "registry"),
                ("src/base/x.cpp", 'int n = ato' 'i("1");\n', "from_chars"),
                ("src/base/x.cpp", 'int n = std::sto' 'i("1");\n', "from_chars"),
                ("src/base/x.cpp", 'int n = ssca' 'nf(a, "%d", b);\n', "from_chars"),
                ("tests/x.cpp", "using namespace std;\n", "names what it uses"),
                ("src/base/x.cpp", "int   a;\n", "clang-format would change"),
        ]:
            self.mutant(name, text, "style", expected)

    def test_words_that_only_look_alike_pass(self):
        self.write("docs/x.md", "the network/work load, /workers, a todo list, deb packages\n")
        self.passes("style")


class Links(Mutants):
    def build(self, *libraries):
        (self.root / "daemons/tool").mkdir(exist_ok=True, parents=True)
        for library in libraries:  # stand-ins with the real sonames, in a directory of our own
            subprocess.run(["cc", "-shared", "-x", "c", "/dev/null", f"-Wl,-soname,{library}",
                            "-o", self.root / library], check=True)
        subprocess.run(["cc", "-x", "c", "-", "-o", self.root / "tool", "-Wl,--no-as-needed",
                        "-x", "none", *[self.root / library for library in libraries]],
                       input="int main(void) { return 0; }", text=True, check=True)

    def test_a_forbidden_library_fails(self):
        self.build("libm.so.6")
        self.passes("links", self.root, self.root)
        self.build("libzstd.so.1")
        self.fails("links", "links libzstd.so.1", self.root, self.root)
        self.build("libtpms.so.0", "libm.so.6")
        self.fails("links", "links libtpms.so.0", self.root, self.root)

    def test_a_program_that_is_not_there_fails(self):
        self.fails("links", "not built", self.root, self.root)


class Installed(Mutants):
    def build(self, shipped, drill):
        """A build directory that installs `shipped` as `tool`, and has `drill` as the drill's engine."""
        build = self.root / "build"
        build.mkdir(exist_ok=True)
        (build / "tool").write_bytes(b"\x7fELF" + shipped)
        (build / "vtpm-engine-drill").write_bytes(b"\x7fELF" + drill)
        (build / "cmake_install.cmake").write_text(
            f'file(INSTALL DESTINATION "/usr/sbin" TYPE PROGRAM FILES "{build}/tool")\n',
            encoding="utf-8")
        return build

    def test_the_drill_must_not_be_shipped(self):
        build = self.build(b"an engine", b"VTPM_DRILL")
        self.passes("installed", build, self.root)
        self.build(b"getenv VTPM_DRILL", b"VTPM_DRILL")
        self.fails("installed", "tool has the containment drill in it", build, self.root)
        self.build(b"an engine", b"unknown")
        self.fails("installed", "no longer known by its variable", build, self.root)
        self.build(b"an engine", b"VTPM_DRILL")
        with (build / "cmake_install.cmake").open("a", encoding="utf-8") as script:
            script.write('file(INSTALL DESTINATION "/usr/sbin" TYPE PROGRAM FILES '
                         f'"{build}/vtpm-engine-drill")\n')
        self.fails("installed", "vtpm-engine-drill: installed", build, self.root)


class Packaging(Mutants):
    UNIT = "".join(f"{line}\n" for line in (
        "[Service]", "ExecStart=/usr/sbin/tool", "DynamicUser=yes", "CapabilityBoundingSet=",
        "PrivateNetwork=yes", "PrivateDevices=yes", "PrivateUsers=yes", "ProtectHome=yes",
        "ProtectClock=yes", "ProtectKernelLogs=yes", "ProtectKernelModules=yes",
        "ProtectKernelTunables=yes", "ProtectControlGroups=yes", "ProtectHostname=yes",
        "RestrictNamespaces=yes", "RestrictRealtime=yes", "RestrictAddressFamilies=AF_UNIX",
        "SystemCallArchitectures=native", "SystemCallFilter=@system-service", "UMask=0077",
        "MemoryDenyWriteExecute=yes", "LockPersonality=yes", "IPAddressDeny=any"))
    MANUAL = ".Dd November 23, 2026\n.Dt X 8\n.Os\n.Sh NAME\n.Nm x\n.Nd does x\n"

    def setUp(self):
        super().setUp()
        self.shipped = {"systemd/x.service": self.UNIT, "packaging/man/x.8": self.MANUAL,
                        "config/vtpmmgrd.toml": "a = 1\n", "config/x": "#!/bin/sh\necho ok\n"}
        for name, text in self.shipped.items():
            self.write(name, text)

    def test_each_rule_can_fail(self):
        self.passes("packaging")
        for name, text, expected in [
                ("systemd/x.service", "[Service]\nExecStart=/usr/sbin/tool\n", "exposure 9"),
                ("systemd/x.service", self.UNIT + "PrivateNetwrk=yes\n", "PrivateNetwrk"),
                ("packaging/man/x.8", self.MANUAL + ".Zz\n", "unknown macro"),
                ("config/vtpmmgrd.toml", "a = \n", "vtpmmgrd.toml"),
                ("config/x", "#!/bin/sh\nrm $1\n", "SC2086"),
        ]:
            with self.subTest(name=name, text=text):
                self.write(name, text)
                self.fails("packaging", expected)
                self.write(name, self.shipped[name])


class Totals(unittest.TestCase):
    def test_what_did_not_run_has_failed(self):
        cases = "".join(f'<testcase status="{status}">{inner}</testcase>' for status, inner in (
            ("run", ""), ("run", ""), ("run", ""), ("fail", '<failure message=""/>'),
            ("notrun", '<skipped message="Unable to find executable"/>'),
            ("notrun", '<skipped message="SKIP_RETURN_CODE=77"/>'), ("disabled", "")))
        document = ElementTree.fromstring(f"<testsuite>{cases}</testsuite>")
        self.assertEqual(totals(document), (3, 2, 2))
        self.assertEqual(totals(ElementTree.fromstring("<testsuite/>")), (0, 0, 0))

    def test_the_failed_assertion_is_shown_wherever_it_stands(self):
        output = [f"line {number}" for number in range(200)]
        output[50] = "x_test.cpp:7: FAILED:"
        document = ElementTree.fromstring('<testsuite><testcase name="x" status="fail"><system-out>'
                                          + "\n".join(output) + "</system-out></testcase></testsuite>")
        shown = "\n".join(failures(document)).splitlines()
        self.assertEqual(shown, ["---- x", "   ...", *output[38:61], "   ...", *output[160:]])


if __name__ == "__main__":
    unittest.main()
