"""The few TPM 2.0 commands that scenarios send as bytes (TPM 2.0 Part 3), with empty passwords."""

import hashlib
import struct
from collections.abc import Callable

from .agent import LabError

HEADER = struct.Struct(">HII")
ST_NO_SESSIONS, ST_SESSIONS = 0x8001, 0x8002
CC_NV_DEFINE_SPACE, CC_NV_WRITE, CC_NV_READ = 0x12A, 0x137, 0x14E
CC_PCR_READ, CC_PCR_EXTEND = 0x17E, 0x182
RH_OWNER = 0x40000001
ALG_SHA256 = 0x0B
OWNER_WRITE_AND_READ = 0x20002
PASSWORD = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)


class Tpm20Error(Exception):
    """The TPM answered with an error code."""

    def __init__(self, code: int, answer: int) -> None:
        super().__init__(f"TPM 2.0 command {code:#x} answered {answer:#x}")
        self.code = answer


class Tpm20:
    """A TPM 2.0 behind a function that carries a command there and its answer back."""

    def __init__(self, send: Callable[[bytes], bytes]) -> None:
        self._send = send

    def _command(self, tag: int, code: int, body: bytes) -> bytes:
        answer = self._send(HEADER.pack(tag, HEADER.size + len(body), code) + body)
        if len(answer) < HEADER.size:
            raise LabError(f"TPM 2.0 command {code:#x}: no answer, but {answer.hex() or 'nothing'}")
        result = HEADER.unpack(answer[:HEADER.size])[2]
        if result != 0:
            raise Tpm20Error(code, result)
        return answer[HEADER.size:]

    def extend(self, pcr: int, digest: bytes) -> None:
        """Extends a PCR of the SHA-256 bank."""
        body = struct.pack(">I", pcr) + PASSWORD + struct.pack(">IH", 1, ALG_SHA256) + digest
        self._command(ST_SESSIONS, CC_PCR_EXTEND, body)

    def pcr_read(self, pcr: int) -> bytes:
        """Reads a PCR of the SHA-256 bank."""
        chosen = (1 << pcr).to_bytes(3, "little")
        answer = self._command(ST_NO_SESSIONS, CC_PCR_READ, struct.pack(">IHB", 1, ALG_SHA256, 3) + chosen)
        return answer[-hashlib.sha256().digest_size:]

    def nv_define(self, index: int, size: int) -> None:
        """Defines an index that the owner reads and writes."""
        public = struct.pack(">IHIHH", index, ALG_SHA256, OWNER_WRITE_AND_READ, 0, size)
        body = struct.pack(">I", RH_OWNER) + PASSWORD + struct.pack(">HH", 0, len(public)) + public
        self._command(ST_SESSIONS, CC_NV_DEFINE_SPACE, body)

    def nv_write(self, index: int, data: bytes) -> None:
        """Writes an index from its beginning."""
        body = struct.pack(">II", RH_OWNER, index) + PASSWORD + struct.pack(">H", len(data)) + data + bytes(2)
        self._command(ST_SESSIONS, CC_NV_WRITE, body)

    def nv_read(self, index: int, size: int) -> bytes:
        """Reads an index from its beginning."""
        body = struct.pack(">II", RH_OWNER, index) + PASSWORD + struct.pack(">HH", size, 0)
        return self._command(ST_SESSIONS, CC_NV_READ, body)[6:6 + size]
