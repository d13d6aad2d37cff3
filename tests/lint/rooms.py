#!/usr/bin/env python3
"""Holds the includes against the tables of docs/architecture.md.

    rooms.py [TREE]

A room includes itself and the rooms it leans on, a program the rooms it joins; `chip/chip.h` in the
table means that one header of a room and no other. A library's headers
are included only by the rooms that the library belongs to. vtpm_room() and vtpm_program() link no
more than that. There is no room that the table does not have.
"""

import re
import sys
from pathlib import Path

from tree import SOURCE_SUFFIXES, files, names, report, table

PROGRAM = "programs"  # stands for every program in LIBRARIES

# Headers of libraries, and who may include them. The first pattern that fits decides.
LIBRARIES = [
    (r"libtpms/", {"engine"}),
    (r"tss2/", {"chip"}),
    (r"sqlite3", {"vault"}),
    (r"(xen|xs\.h|xs_lib\.h)", {"xen"}),
    (r"(seccomp\.h|linux/seccomp\.h|cap-ng\.h|sys/capability\.h|linux/capability\.h)", {"jail"}),
    (r"(boost/|google/protobuf/|.*\.pb\.h$)", {"wire", PROGRAM}),
    (r"openssl/", {"base", "engine", "vault", "vtpmmgrd", "vtpmctl"}),
    (r"(spdlog/|tl/expected)", {"base"}),
    (r"(CLI/|toml\+\+|nlohmann/|systemd/)", {PROGRAM}),
]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def owner(path):
    """('room' | 'program', name) of a source file; None if it is neither."""
    parts = path.parts
    if len(parts) > 2 and parts[0] == "src":
        return "room", parts[1]
    if len(parts) > 3 and parts[:2] == ("include", "vtpm"):
        return "room", parts[2]
    if len(parts) > 2 and parts[0] == "daemons":
        return "program", parts[1]
    return None


def check_include(kind, name, allowed, header):
    """What is wrong with this include in this room or program; None if nothing."""
    ours = re.match(r"vtpm/([^/]+)/", header)
    if ours and not header.endswith(".pb.h"):
        room = ours.group(1)
        if room != name and not {room, header.removeprefix("vtpm/")} & allowed:
            return f"includes {header}, but {name} does not lean on {room}"
        return None
    for pattern, owners in LIBRARIES:
        if re.match(pattern, header):
            if name not in owners and not (kind == "program" and PROGRAM in owners):
                return f"includes <{header}>, which belongs to {', '.join(sorted(owners))}"
            return None
    return None


def check_sources(root, rooms, programs):
    for path in files(root):
        place = owner(path.relative_to(root))
        if not place or path.suffix not in SOURCE_SUFFIXES | {".proto"}:
            continue
        kind, name = place
        known = rooms if kind == "room" else programs
        relative = path.relative_to(root)
        if name not in known:
            yield f"{relative}: no {kind} '{name}' in docs/architecture.md"
            continue
        for _, header in INCLUDE.findall(path.read_text(encoding="utf-8")):
            problem = check_include(kind, name, known[name], header)
            if problem:
                yield f"{relative}: {problem}"


def check_links(root, rooms, programs):
    """What CMake links, against the same tables."""
    for command, known, file in (("vtpm_room", rooms, root / "CMakeLists.txt"),
                                 ("vtpm_program", programs, root / "daemons/CMakeLists.txt")):
        if not file.exists():
            continue
        text = re.sub(r"#.*", "", file.read_text(encoding="utf-8"))
        for arguments in re.findall(command + r"\(([^)]*)\)", text):
            words = arguments.split()
            name = words[0]
            if name not in known:
                yield f"{file.relative_to(root)}: {name} is not in docs/architecture.md"
                continue
            linked = {word for word in words[1:] if word in rooms} - {name}
            allowed = {entry.split("/")[0] for entry in known[name]}
            for extra in sorted(linked - allowed):
                yield f"{file.relative_to(root)}: {name} links {extra}, but does not lean on it"


def main(arguments):
    root = Path(arguments[1] if len(arguments) > 1 else Path(__file__).parents[2]).resolve()
    rooms = {name: names(row[2]) for row in table(root, "room") for name in names(row[0])}
    programs = {name: names(row[1]) for row in table(root, "program") for name in names(row[0])}
    problems = [f"docs/architecture.md: {name} leans on '{entry}', which is no room"
                for name, leans in {**rooms, **programs}.items() for entry in sorted(leans)
                if entry.split("/")[0] not in rooms]
    problems += check_sources(root, rooms, programs)
    problems += check_links(root, rooms, programs)
    return report("rooms", problems)


if __name__ == "__main__":
    sys.exit(main(sys.argv))
