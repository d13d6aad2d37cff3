"""Looks for secrets in a whole disk image: files, deleted files, journals, free blocks."""

import base64
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from xenlab.expect import expect, expect_equal
from xenlab.lab import Lab
from xenlab.say import step, timed

PIECE = 64 << 20


class Secret(NamedTuple):
    """Something that must not lie on a disk."""

    name: str
    value: bytes


class Hit(NamedTuple):
    """Where a secret lies, and in which form."""

    name: str
    form: str
    offset: int


def forms(value: bytes) -> dict[str, bytes]:
    """Returns what a secret may look like on a disk."""
    found = {}
    for order, data in (("", value), (" reversed", value[::-1])):
        found["raw" + order] = data
        found["hex" + order] = data.hex().encode()
        found["HEX" + order] = data.hex().upper().encode()
        for shift in range(3):
            # Of the text only that part counts which does not depend on what stood around the secret.
            text = base64.b64encode(bytes(shift) + data)
            found[f"base64+{shift}{order}"] = text[(0, 2, 3)[shift] + 2:-4]
    return found


def raw(value: bytes) -> dict[str, bytes]:
    """Returns the bytes as they are, in overlapping parts: a remainder of them is found as well."""
    size = 16
    starts = [*range(0, len(value) - size, size), len(value) - size]
    return {f"bytes {start} to {start + size}": value[start:start + size] for start in starts}


def search(disk: Path, secrets: list[Secret],
           as_what: Callable[[bytes], dict[str, bytes]] = forms) -> list[Hit]:
    """Searches the image for all forms of all secrets; returns the first place of each that is there."""
    needles = [(secret.name, form, text) for secret in secrets for form, text in as_what(secret.value).items()]
    overlap = max(len(text) for _, _, text in needles)
    hits: dict[tuple[str, str], Hit] = {}
    for offset, piece in _pieces(disk, overlap):
        for name, form, text in needles:
            if (name, form) not in hits and (at := piece.find(text)) >= 0:
                hits[name, form] = Hit(name, form, offset + at)
    return list(hits.values())


def _pieces(disk: Path, overlap: int) -> Iterator[tuple[int, bytes]]:
    """Yields all of the image but its holes, which are zeros; neighbours overlap."""
    fd = os.open(disk, os.O_RDONLY)
    try:
        end = os.fstat(fd).st_size
        offset = 0
        while True:
            try:
                offset = os.lseek(fd, offset, os.SEEK_DATA)
            except OSError:
                return
            hole = min(os.lseek(fd, offset, os.SEEK_HOLE), end)
            # A secret may begin in the last bytes of data and go on behind a hole's edge only as zeros.
            while offset < hole:
                start = max(0, offset - overlap)
                yield start, os.pread(fd, min(PIECE, hole - offset) + overlap, start)
                offset += PIECE
            offset = hole
    finally:
        os.close(fd)


def plant(lab: Lab) -> list[Secret]:
    """Puts markers on the disk, so that a search that finds nothing means something."""
    marks = [Secret(name, secrets.token_bytes(32)) for name in ("in a file", "as hex", "backwards", "deleted")]
    plain, as_hex, backwards, deleted = (mark.value for mark in marks)
    lab.agent.put("/root/plain", plain)
    lab.agent.put("/root/hex", as_hex.hex().encode())
    lab.agent.put("/root/backwards", backwards[::-1])
    # Many times: the file system soon gives some of the blocks to others.
    lab.agent.put("/run/lab/deleted", deleted)
    lab.check("for i in $(seq 100); do cp /run/lab/deleted /root/deleted.$i; done; sync; rm /root/deleted.*; sync")
    return marks


def shut_down_and_search(lab: Lab, planted: list[Secret], hidden: list[Secret]) -> None:
    """Switches the host off, and expects to find on its disk all that was planted, and nothing of what is hidden."""
    lab.check("journalctl --sync; sync")
    with timed("shutting down"):
        lab.shutdown()
    with timed(f"searching the disk for {len(planted)} planted values and {len(hidden)} secrets"):
        hits = search(lab.disk, planted + hidden)
    step("the search finds what was planted, in a file, as hex, backwards, and in a file deleted since")
    found = {hit.name for hit in hits}
    expect_equal({secret.name for secret in planted} - found, set(), "planted values that the search does not find")
    leaked = [hit for hit in hits if hit.name in {secret.name for secret in hidden}]
    expect(not leaked, f"on the disk: {leaked}")
