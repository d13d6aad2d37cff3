"""A host whose chip is a TPM 1.2: only if the operator says so; sealed to the boot, and not lost on another."""

import hashlib
import json
import secrets

from xenlab import measured, vtpm
from xenlab.chip import Chip12
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import GuestConfig
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
PCR = 12
KEY = "/root/recovery"


def run(lab: Lab) -> None:
    """The kernel's driver for TPM 1.2; three boots that measure different things."""
    chip = Chip12(lab.directory / "chip12")
    with timed("booting"):
        lab.boot(chip)
    expect_equal(lab.check("cat /sys/class/tpm/tpm0/tpm_version_major").strip(), "1", "the chip's generation")
    measured.install(lab, measured.script12(PCR))
    lab.check("systemctl stop vtpmmgrd.socket vtpmmgrd.service && "
              f"rm -rf {vtpm.STATE}/* && systemctl reset-failed")
    _boot(lab, chip, "one")
    step("a TPM 1.2 is refused unless the operator asks for it")
    refused = lab.sh("vtpmctl setup")
    expect(refused.status != 0, "a TPM 1.2 was set up without being asked for")
    expect_in("--legacy-tpm12", refused.out, "what vtpmctl setup said")
    lab.check(f"vtpmctl setup --legacy-tpm12 --pcrs {PCR} --recovery-out {KEY}")
    status = json.loads(lab.check("vtpmctl status --json"))
    expect_equal((status["state"], status["chip_tpm"]), ("open", "1.2"), "state and chip")
    expect(len(status["limits"]) > 0, "status tells no limits of a TPM 1.2")

    instance = vtpm.create(lab, "old", "2.0")
    secret = secrets.token_bytes(32)
    guest = lab.create_guest("old", "pv", instance.line)
    tpm_of(guest, "2.0").write_secret(secret)
    guest.shutdown()
    step("the next boot is approved before it happens")
    value = hashlib.sha1(bytes(20) + hashlib.sha1(b"two").digest()).hexdigest()
    lab.check(f"vtpmctl approve next --legacy-tpm12 --pcr {PCR}={value}")
    _boot(lab, chip, "two")
    _expect_secret(lab, instance, secret, "on a boot that was approved before")

    _boot(lab, chip, "three")
    step("a boot that nobody has approved: locked, and the guest is told why")
    expect_in("not approved", lab.sh("vtpmctl status").out, "vtpmctl status")
    status, _ = lab.try_create(GuestConfig("old", "pv", instance.line))
    expect(status != 0, "a guest got its TPM on a boot that nobody has approved")
    step("the recovery key opens it, and this boot is approved")
    lab.check(f"vtpmctl unlock --recovery-key {KEY} && vtpmctl approve this-boot --legacy-tpm12")
    _expect_secret(lab, instance, secret, "with the recovery key")
    _boot(lab, chip, "three")
    _expect_secret(lab, instance, secret, "on the boot that is approved now")


def _expect_secret(lab: Lab, instance: vtpm.Instance, secret: bytes, when: str) -> None:
    guest = lab.create_guest(instance.name, "pv", instance.line)
    expect_equal(tpm_of(guest, "2.0").read_secret(32), secret, f"the secret {when}")
    guest.shutdown()


def _boot(lab: Lab, chip: Chip12, what: str) -> None:
    with timed(f"booting a system that measures '{what}'"):
        measured.choose(lab, what)
        lab.shutdown()
        lab.boot(chip)
