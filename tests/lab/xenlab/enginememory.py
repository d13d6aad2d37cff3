"""Finds an endorsement key's primes in the memory of a running vtpm-engine.

Nobody outside can ask a TPM for its private keys, so they are looked for where they must be: any 128 bytes of the
engine's memory that divide the public modulus are one of its primes. The memory goes to this process and nowhere else.
"""

import re

from . import vtpm
from .lab import Lab

PRIME_SIZE = 128
PAGE = 4096


def primes(lab: Lab, domid: int, modulus: int) -> list[bytes]:
    """Returns the primes of `modulus`, big-endian, or nothing when the engine's memory has none."""
    for start, memory in _writable_memory(lab, vtpm.engine_pid(lab, domid)):
        del start
        if prime := _find_factor(memory, modulus):
            return [p.to_bytes(PRIME_SIZE, "big") for p in (prime, modulus // prime)]
    return []


def _writable_memory(lab: Lab, pid: int) -> list[tuple[int, bytes]]:
    areas = []
    for line in lab.check(f"cat /proc/{pid}/maps").splitlines():
        match = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw.. \S+ \S+ \S+\s*(.*)", line)
        if match and not match[3].startswith("/dev/"):
            start, end = int(match[1], 16), int(match[2], 16)
            areas.append((start, lab.agent.get(f"/proc/{pid}/mem", start, end - start)))
    return areas


def _find_factor(memory: bytes, modulus: int) -> int:
    """Tries each run of bytes whose highest bits and lowest bit a prime of a 2048-bit key has."""
    for page in range(0, len(memory), PAGE):
        piece = memory[page:page + PAGE + PRIME_SIZE - 1]
        if piece.count(0) == len(piece):
            continue
        for at in range(len(piece) - PRIME_SIZE + 1):
            first, last = piece[at], piece[at + PRIME_SIZE - 1]
            if first >= 0xB5 and last & 1:
                candidate = int.from_bytes(piece[at:at + PRIME_SIZE], "big")
                if modulus % candidate == 0:
                    return candidate
            if last >= 0xB5 and first & 1:
                candidate = int.from_bytes(piece[at:at + PRIME_SIZE], "little")
                if modulus % candidate == 0:
                    return candidate
    return 0
