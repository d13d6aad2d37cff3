"""A stock PV guest with a TPM 2.0, through tpm2-tools on the raw device."""

import hashlib
import secrets

from xenlab import vtpm
from xenlab.expect import expect, expect_equal
from xenlab.guest import Guest
from xenlab.guesttpm import GuestTpm20
from xenlab.lab import Lab
from xenlab.say import step

NEEDS_PRODUCT = True
OWN_HOST = False


def run(lab: Lab) -> None:
    """Random numbers, PCRs, NV and a primary key."""
    instance = vtpm.create(lab, "pv20", "2.0")
    guest = lab.create_guest("pv20", "pv", instance.line)
    step("random numbers differ")
    first, second = (guest.check("tpm2_getrandom --hex 16") for _ in range(2))
    expect(len(first) == 32 and first != second, f"random numbers: {first}, {second}")
    _check_pcr(guest)
    step("an NV index keeps what is written")
    tpm, secret = GuestTpm20(guest), secrets.token_bytes(32)
    tpm.write_secret(secret)
    expect_equal(tpm.read_secret(32), secret, "what the NV index holds")
    step("an RSA primary key can be made and read")
    guest.check("tpm2_createprimary -C o -c /tmp/primary && tpm2_readpublic -c /tmp/primary && tpm2_flushcontext -t", 300)
    step("the guest shuts down in an orderly way, and so does its TPM")
    guest.shutdown()
    expect("timeout closing device" not in guest.console_log(), "the TPM held up the shutdown")
    vtpm.expect_nothing_left(lab)
    vtpm.delete(lab, instance)


def _pcr(guest: Guest) -> bytes:
    out = guest.check("tpm2_pcrread sha256:16")
    return bytes.fromhex(out.rsplit("0x", 1)[1].strip())


def _check_pcr(guest: Guest) -> None:
    step("an extended PCR reads back as SHA256(old || data)")
    before, data = _pcr(guest), bytes(range(32))
    guest.check(f"tpm2_pcrextend 16:sha256={data.hex()}")
    expect_equal(_pcr(guest), hashlib.sha256(before + data).digest(), "PCR 16")
