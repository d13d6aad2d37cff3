#!/usr/bin/env python3
"""Checks what is shipped beside the programs: shell scripts, manual pages, units, configuration.

    packaging.py [TREE]
"""

import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from tree import files, report

# systemd's own measure of how much of the system a service can reach, 0 to 10. vtpmd is root and
# makes namespaces for engines; the others need next to nothing.
MAX_EXPOSURE = {"vtpmmgrd.service": 1.0, "vtpmd@.service": 3.0,
                "vtpm-swtpm@.service": 3.0, "vtpm-front@.service": 4.5, "vtpm-front-initrd@.service": 4.5,
                "vtpm-coldplug.service": 2.0}
SHELL = re.compile(rb"#!\s*/(usr/)?bin/(env )?(ba|da)?sh\b")


def run(*command, cwd=None):
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def check_scripts(root):
    for path in files(root):
        with path.open("rb") as file:
            if not SHELL.match(file.read(80)):
                continue
        lint = run("shellcheck", "--external-sources", "--format=gcc", str(path.relative_to(root)),
                   cwd=root)
        yield from lint.stdout.splitlines()


def check_manuals(root):
    pages = sorted((root / "packaging/man").glob("*.8"))
    if not pages:
        yield "packaging/man: no manual pages"
    for page in pages:
        lint = run("mandoc", "-Tlint", "-Wwarning", page)
        yield from (line.replace(f"{root}/", "") for line in lint.stdout.splitlines())


def check_units(root):
    with tempfile.TemporaryDirectory() as scratch:
        copies = []
        for unit in sorted((root / "systemd").glob("*.s*")):
            if unit.suffix not in {".service", ".socket"}:
                continue
            # The programs need not be installed here; an instance stands for its template.
            text = re.sub(r"(?m)^(ExecStart=)\S+", r"\1/bin/true", unit.read_text(encoding="utf-8"))
            copy = Path(scratch) / unit.name.replace("@.", "@1-0.")
            copy.write_text(text, encoding="utf-8")
            copies.append((unit.name, copy))
        if not copies:
            yield "systemd: no units"
            return
        verify = run("systemd-analyze", "verify", "--man=no", *(copy for _, copy in copies))
        names = "|".join(re.escape(copy.name) for _, copy in copies)
        yield from (f"systemd: {line}" for line in verify.stderr.splitlines()
                    if re.search(names, line))
        for name, copy in copies:
            if copy.suffix != ".service":
                continue
            security = run("systemd-analyze", "security", "--offline=true", "--no-pager", copy)
            level = re.search(r"Overall exposure level for \S+: ([0-9.]+)", security.stdout)
            if not level or float(level.group(1)) > MAX_EXPOSURE.get(name, 2.0):
                yield (f"systemd/{name}: exposure {level.group(1) if level else 'unknown'}, "
                       f"at most {MAX_EXPOSURE.get(name, 2.0)}")


def check_configuration(root):
    try:
        tomllib.loads((root / "config/vtpmmgrd.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        yield f"config/vtpmmgrd.toml: {error}"


def main(arguments):
    root = Path(arguments[1] if len(arguments) > 1 else Path(__file__).parents[2]).resolve()
    for tool in ("shellcheck", "mandoc", "systemd-analyze"):
        if not shutil.which(tool):
            raise SystemExit(f"packaging: {tool} is not installed; tests/deps installs it")
    problems = [*check_scripts(root), *check_manuals(root), *check_units(root),
                *check_configuration(root)]
    return report("packaging", problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
