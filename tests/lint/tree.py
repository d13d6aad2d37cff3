"""What the lints look at: the files of a tree, and the tables of docs/architecture.md."""

import re
import subprocess
from pathlib import Path

SOURCE_SUFFIXES = {".cpp", ".h"}


def files(root):
    """Every file that git tracks or would track; without git, every file outside build directories."""
    listed = subprocess.run(
        ["git", "-C", root, "-c", "safe.directory=*", "ls-files", "-z", "--cached", "--others",
         "--exclude-standard"], capture_output=True, check=False)
    top = subprocess.run(
        ["git", "-C", root, "-c", "safe.directory=*", "rev-parse", "--show-toplevel"],
        capture_output=True, text=True, check=False)
    if top.returncode == 0 and Path(top.stdout.strip()).resolve() == Path(root).resolve():
        found = [root / name.decode() for name in listed.stdout.split(b"\0") if name]
    else:
        found = [path for path in root.rglob("*")
                 if not re.match(r"(build[^/]*|out|\.git)(/|$)", str(path.relative_to(root)))]
    return sorted(path for path in found if path.is_file() and not path.is_symlink())


def table(root, first_header):
    """The rows of the table of docs/architecture.md whose first column is headed so."""
    rows = []
    inside = False
    for line in (root / "docs/architecture.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells[0] == first_header:
            inside = True
        elif inside and not set(cells[0]) <= set("-: "):
            rows.append(cells)
    if not rows:
        raise SystemExit(f"docs/architecture.md: no table headed '{first_header}'")
    return rows


def names(cell):
    """The `names` in a table's cell."""
    return set(re.findall(r"`([^`]+)`", cell))


def report(lint, problems):
    """Prints the problems; the exit code."""
    for problem in problems:
        print(f"{lint}: {problem}")
    if not problems:
        print(f"{lint}: nothing to complain about")
    return 1 if problems else 0
