"""A guest's TPM as programs in the guest use it: the same few deeds for both versions."""

import re
from typing import Protocol

from .agent import LabError
from .guest import Guest
from .tpm12 import Tpm12, Tpm12Error

NV_INDEX_12 = 0x00011101
NV_INDEX_20 = 0x1500101


class GuestTpm(Protocol):
    """What the scenarios do with either version."""

    def write_secret(self, secret: bytes) -> None:
        """Writes an NV index, defined at the first write; returns when the TPM has answered."""

    def read_secret(self, size: int) -> bytes:
        """Reads it; raises LabError when it is not there."""

    def ek_modulus(self) -> int:
        """Returns the modulus of the endorsement key."""


class GuestTpm12:
    """A TPM 1.2 behind the stock driver."""

    def __init__(self, guest: Guest) -> None:
        self.raw = Tpm12(lambda command: bytes.fromhex(guest.check(f"tpmraw {command.hex()}", 240)))

    def write_secret(self, secret: bytes) -> None:
        """See GuestTpm."""
        try:
            self.raw.nv_write(NV_INDEX_12, secret)
        except Tpm12Error:
            self.raw.nv_define(NV_INDEX_12, len(secret))
            self.raw.nv_write(NV_INDEX_12, secret)

    def read_secret(self, size: int) -> bytes:
        """See GuestTpm."""
        try:
            return self.raw.nv_read(NV_INDEX_12, size)
        except Tpm12Error as error:
            raise LabError(str(error)) from error

    def ek_modulus(self) -> int:
        """See GuestTpm."""
        return self.raw.ek_modulus()


class GuestTpm20:
    """A TPM 2.0, used by tpm2-tools on the raw device: the stock driver offers no resource manager."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def write_secret(self, secret: bytes) -> None:
        """See GuestTpm."""
        index = f"{NV_INDEX_20:#x}"
        self._guest.check(
            f"tpm2_nvreadpublic {index} >/dev/null 2>&1 || "
            f"tpm2_nvdefine {index} -C o -s {len(secret)} -a 'ownerread|ownerwrite' || exit 1; "
            f"echo {secret.hex()} | xxd -r -p | tpm2_nvwrite {index} -C o -i -", 240)

    def read_secret(self, size: int) -> bytes:
        """See GuestTpm."""
        read = f"tpm2_nvread {NV_INDEX_20:#x} -C o -s {size} -o /tmp/nv && xxd -p /tmp/nv | tr -d '\\n'"
        return bytes.fromhex(self._guest.check(read, 240))

    def ek_modulus(self) -> int:
        """See GuestTpm. The key stays loaded in the TPM."""
        out = self._guest.check("tpm2_flushcontext -t; tpm2_createek -c /tmp/ek -G rsa && tpm2_readpublic -c /tmp/ek", 300)
        found = re.search(r"^rsa: ([0-9a-f]+)$", out, re.M)
        if found is None:
            raise LabError(f"tpm2_readpublic shows no modulus:\n{out}")
        return int(found[1], 16)


def tpm_of(guest: Guest, version: str) -> GuestTpm:
    """Returns the TPM of a guest that was given one of this version."""
    return GuestTpm12(guest) if version == "1.2" else GuestTpm20(guest)
