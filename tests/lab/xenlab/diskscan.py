"""Looks for secrets in a whole disk image: files, deleted files, journals, free blocks."""

import base64
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

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
