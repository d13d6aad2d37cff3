"""The few TPM 1.2 commands that scenarios send, as bytes (TPM Main Part 3, level 2 revision 116)."""

import struct
from collections.abc import Callable

from .agent import LabError

HEADER = struct.Struct(">HII")
TAG_COMMAND = 0x00C1
ORD_EXTEND = 0x14
ORD_PCR_READ = 0x15
ORD_GET_RANDOM = 0x46
ORD_GET_CAPABILITY = 0x65
ORD_CREATE_EK = 0x78
ORD_READ_PUBEK = 0x7C
ORD_NV_DEFINE_SPACE = 0xCC
ORD_NV_WRITE_VALUE = 0xCD
ORD_NV_READ_VALUE = 0xCF
CODE_NO_ENDORSEMENT = 0x23
CODE_BAD_INDEX = 0x02
NV_PER_PPWRITE = 0x1
EK_BITS = 2048


class Tpm12Error(Exception):
    """The TPM answered with an error code."""

    def __init__(self, ordinal: int, code: int) -> None:
        super().__init__(f"TPM 1.2 ordinal {ordinal:#x} answered {code:#x}")
        self.code = code


class Tpm12:
    """A TPM 1.2 behind a function that carries a command there and its answer back."""

    def __init__(self, send: Callable[[bytes], bytes]) -> None:
        self._send = send

    def command(self, ordinal: int, body: bytes = b"") -> bytes:
        """Sends a command without authorisation; returns what follows the answer's header."""
        answer = self._send(HEADER.pack(TAG_COMMAND, HEADER.size + len(body), ordinal) + body)
        if len(answer) < HEADER.size:
            raise LabError(f"TPM 1.2 ordinal {ordinal:#x}: no answer, but {answer.hex() or 'nothing'}")
        code = HEADER.unpack(answer[:HEADER.size])[2]
        if code != 0:
            raise Tpm12Error(ordinal, code)
        return answer[HEADER.size:]

    def extend(self, pcr: int, digest: bytes) -> bytes:
        """Extends a PCR; returns its new value."""
        return self.command(ORD_EXTEND, struct.pack(">I", pcr) + digest)

    def pcr_read(self, pcr: int) -> bytes:
        """Reads a PCR."""
        return self.command(ORD_PCR_READ, struct.pack(">I", pcr))

    def get_random(self, count: int) -> bytes:
        """Draws random bytes."""
        return self.command(ORD_GET_RANDOM, struct.pack(">I", count))[4:]

    def nv_define(self, index: int, size: int) -> None:
        """Defines an index. While NV is not locked, as in a TPM without owner, this needs no authorisation."""
        unbound = struct.pack(">H3sB20s", 3, b"\0\0\0", 0x1F, b"")
        public = (struct.pack(">HI", 0x18, index) + unbound + unbound
                  + struct.pack(">HI", 0x17, NV_PER_PPWRITE) + b"\0\0\0" + struct.pack(">I", size))
        self.command(ORD_NV_DEFINE_SPACE, public + bytes(20))

    def nv_write(self, index: int, data: bytes) -> None:
        """Writes an index from its beginning; without owner a TPM allows 64 such writes."""
        self.command(ORD_NV_WRITE_VALUE, struct.pack(">III", index, 0, len(data)) + data)

    def nv_read(self, index: int, size: int) -> bytes:
        """Reads an index from its beginning."""
        return self.command(ORD_NV_READ_VALUE, struct.pack(">III", index, 0, size))[4:]

    def ek_modulus(self) -> int:
        """Returns the endorsement key's RSA modulus; makes the key first in a TPM that has none."""
        try:
            answer = self.command(ORD_READ_PUBEK, bytes(20))
        except Tpm12Error as error:
            if error.code != CODE_NO_ENDORSEMENT:
                raise
            # TPM_KEY_PARMS: RSA, OAEP-SHA1-MGF1, no signature scheme; 2048 bits, 2 primes, default exponent.
            parameters = struct.pack(">IHHI", 1, 3, 1, 12) + struct.pack(">III", EK_BITS, 2, 0)
            answer = self.command(ORD_CREATE_EK, bytes(20) + parameters)
        parameter_size = struct.unpack(">I", answer[8:12])[0]
        key = answer[12 + parameter_size:]
        return int.from_bytes(key[4:4 + struct.unpack(">I", key[:4])[0]], "big")
