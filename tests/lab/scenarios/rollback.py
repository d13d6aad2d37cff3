"""An older copy of the host's whole disk, or of its chip: they do not fit; the recovery key is the way out."""

import secrets

from xenlab import vtpm
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import GuestConfig
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab, copy_disk
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
KEY = "/root/recovery"


def run(lab: Lab) -> None:
    """The host is switched off between the copies; the power fails once, which must not look like a rollback."""
    with timed("booting"):
        lab.boot()
    lab.check(f"vtpmctl setup --recovery-out {KEY}")
    instance = vtpm.create(lab, "mine", "1.2")
    older = _write(lab, instance)
    lab.shutdown()
    step("a copy of the disk is made; then the guest writes something newer, and the power fails")
    copy = lab.directory / "older.img"
    copy_disk(lab.disk, copy)
    with timed("booting"):
        lab.boot(lossy=True)
    newer = _write(lab, instance)
    lab.power_cut()
    with timed("booting after the power cut"):
        lab.boot()
    step("a power cut is no rollback")
    guest = lab.create_guest("mine", "pv", instance.line)
    expect_equal(tpm_of(guest, "1.2").read_secret(32), newer, "the secret after the power cut")
    lab.shutdown()
    copy.rename(lab.disk)
    with timed("booting from the older copy of the disk"):
        lab.boot()
    _check_refused(lab, instance)
    step("who has the recovery key can have the older state")
    lab.check(f"vtpmctl recover --yes --recovery-key {KEY}")
    guest = lab.create_guest("mine", "pv", instance.line)
    expect_equal(tpm_of(guest, "1.2").read_secret(32), older, "the secret after the recovery")
    expect_in('"recoveries": 1', lab.check("vtpmctl status --json"), "vtpmctl status")
    lab.shutdown()
    _put_chip_back(lab, instance)


def _put_chip_back(lab: Lab, instance: vtpm.Instance) -> None:
    step("the guest writes something newer; then the chip is put back to what it was before")
    older = lab.chip.copy(lab.directory / "older chip")
    with timed("booting"):
        lab.boot()
    # A commit beside the one at the shutdown: a chip that is one behind is what a power cut between disk and chip leaves,
    # and the disk has the newest state then.
    vtpm.create(lab, "other", "2.0")
    newer = _write(lab, instance)
    lab.shutdown()
    own = lab.chip.copy(lab.directory / "own chip")
    lab.chip.restore(older)
    with timed("booting with the older chip"):
        lab.boot()
    _check_refused(lab, instance)
    lab.shutdown()
    step("with the chip as it was left, all is as it was")
    lab.chip.restore(own)
    with timed("booting"):
        lab.boot()
    guest = lab.create_guest("mine", "pv", instance.line)
    expect_equal(tpm_of(guest, "1.2").read_secret(32), newer, "the secret with the newest chip")


def _write(lab: Lab, instance: vtpm.Instance) -> bytes:
    guest = lab.create_guest("mine", "pv", instance.line)
    secret = secrets.token_bytes(32)
    tpm_of(guest, "1.2").write_secret(secret)
    return secret


def _check_refused(lab: Lab, instance: vtpm.Instance) -> None:
    step("status and journal say that disk and chip are not of the same time; the guest is refused")
    expect_in("the chip remembers another state", lab.sh("vtpmctl status").out, "vtpmctl status")
    expect_in("vtpmctl recover", lab.sh("vtpmctl list").out, "what vtpmctl advises")
    cursor = lab.journal_cursor()
    status, _ = lab.try_create(GuestConfig("mine", "pv", instance.line))
    expect(status != 0, "a guest got a TPM from an older copy of the disk")
    expect_in("the chip remembers another state", lab.journal("vtpmd@*", since=cursor), "the journal of vtpmd")
    vtpm.expect_nothing_left(lab)
