"""One PCR of a guest's TPM: what lives as long as the guest's power."""

import re
import secrets

from .agent import LabError
from .guest import Guest
from .tpm12 import Tpm12

PCR = 16


class GuestPcr:
    """A PCR that guests may use as they like, of the TPM behind a device node of a guest's."""

    def __init__(self, guest: Guest, version: str, node: str = "/dev/tpm0") -> None:
        self._guest = guest
        self._version = version
        self._node = node

    def read(self) -> bytes:
        """Asks the TPM."""
        if self._version == "1.2":
            return self._raw().pcr_read(PCR)
        out = self._guest.check(f"TPM2TOOLS_TCTI=device:{self._node} tpm2_pcrread sha256:{PCR}", 240)
        found = re.search(rf"{PCR}\s*:\s*0x([0-9A-F]{{64}})", out)
        if found is None:
            raise LabError(f"no PCR in:\n{out}")
        return bytes.fromhex(found[1])

    def extend(self) -> bytes:
        """Makes it another one, by a random digest; returns its new value."""
        if self._version == "1.2":
            return self._raw().extend(PCR, secrets.token_bytes(20))
        digest = secrets.token_hex(32)
        self._guest.check(f"TPM2TOOLS_TCTI=device:{self._node} tpm2_pcrextend {PCR}:sha256={digest}", 240)
        return self.read()

    def _raw(self) -> Tpm12:
        program = f"sed s,/dev/tpm0,{self._node}, /lab/tpmraw >/tmp/tpmraw && sh /tmp/tpmraw"
        return Tpm12(lambda command: bytes.fromhex(self._guest.check(f"{program} {command.hex()}", 240)))
