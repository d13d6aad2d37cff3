"""What a disk holds after the power failed.

Killing QEMU alone is too kind: every write the machine had sent would still be there, flushed or not. QEMU's
blklogwrites driver records writes and flushes in order (the format of Linux's dm-log-writes), and from a copy of
the disk as it was at boot only those writes are replayed that a flush had followed.
"""

import os
import struct
import subprocess
from pathlib import Path

MAGIC = 0x6A736677736872
SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")
SECTOR = 512
FLUSH, FUA, DISCARD = 1, 2, 4


def _before(disk: Path) -> Path:
    return disk.with_name(disk.name + ".before")


def begin(disk: Path, log: Path) -> None:
    """Prepares a boot whose power may be cut: keeps the disk as it is now, and begins a log."""
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", disk, _before(disk)], check=True)
    log.write_bytes(b"")


def lose_unflushed(disk: Path, log: Path) -> int:
    """Makes `disk` what the power cut left; returns the number of writes that were lost."""
    entries = _entries(log)
    flushed = max((i for i, entry in enumerate(entries) if entry[2] & FLUSH), default=-1)
    with open(log, "rb") as writes, open(_before(disk), "r+b") as target:
        for index, (sector, sectors, flags, where) in enumerate(entries):
            if index > flushed and not flags & FUA:
                continue
            if flags & DISCARD:
                _zero(target.fileno(), sector * SECTOR, sectors * SECTOR)
            elif sectors:
                os.pwrite(target.fileno(), os.pread(writes.fileno(), sectors * SECTOR, where), sector * SECTOR)
    _before(disk).rename(disk)
    log.unlink()
    return sum(1 for entry in entries[flushed + 1:] if entry[1] and not entry[2] & FUA)


def _entries(log: Path) -> list[tuple[int, int, int, int]]:
    """Returns (sector, sectors, flags, where its data lie in the log) for each entry.

    The superblock's count is not used: QEMU writes it now and then only, and was killed.
    """
    found = []
    size = log.stat().st_size
    with open(log, "rb") as file:
        magic, version, _, sector_size = SUPER.unpack(file.read(SUPER.size))
        if (magic, version) != (MAGIC, 1):
            raise ValueError("this is not a log of writes")
        offset = sector_size
        while offset + sector_size <= size:
            file.seek(offset)
            sector, sectors, flags, _ = ENTRY.unpack(file.read(ENTRY.size))
            data = 0 if flags & DISCARD else sectors * SECTOR
            if offset + sector_size + data > size:
                break
            found.append((sector, sectors, flags, offset + sector_size))
            offset += sector_size + data
    return found


def _zero(fd: int, offset: int, length: int) -> None:
    piece = bytes(1 << 20)
    while length > 0:
        count = min(length, len(piece))
        os.pwrite(fd, piece[:count], offset)
        offset += count
        length -= count
