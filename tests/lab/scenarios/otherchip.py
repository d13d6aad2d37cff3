"""Another chip: the vault says so, refuses, changes nothing; with its own chip it opens again."""

import secrets

from xenlab import vtpm
from xenlab.chip import Chip
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import GuestConfig
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True


def run(lab: Lab) -> None:
    """The same disk on two mainboards."""
    with timed("booting"):
        lab.boot()
    instance = vtpm.create(lab, "mine", "1.2")
    guest = lab.create_guest("mine", "pv", instance.line)
    secret = secrets.token_bytes(32)
    tpm_of(guest, "1.2").write_secret(secret)
    guest.shutdown()
    before = _stop_and_hash(lab)
    lab.shutdown()
    with timed("booting with a chip fresh from the factory"):
        lab.boot(chip=Chip(lab.directory / "otherchip"))
    _check_refused(lab, instance)
    expect_equal(_stop_and_hash(lab), before, "digest of what the vault holds after the other chip")
    lab.shutdown()
    with timed("booting with its own chip"):
        lab.boot()
    step("its own chip is back: everything opens")
    expect_equal(vtpm.names(lab), ["mine"], "instances")
    guest = lab.create_guest("mine", "pv", instance.line)
    expect_equal(tpm_of(guest, "1.2").read_secret(32), secret, "the secret with the chip back")


def _stop_and_hash(lab: Lab) -> str:
    lab.check("systemctl stop vtpmmgrd.socket vtpmmgrd.service")
    return vtpm.vault_digest(lab)


def _check_refused(lab: Lab, instance: vtpm.Instance) -> None:
    step("status and journal say that it is another chip")
    expect_in("not the chip", lab.sh("vtpmctl status").out, "vtpmctl status")
    expect_in("not the chip", lab.journal("vtpmmgrd.service"), "the journal of vtpmmgrd")
    step("the guest is refused, and nothing can be created")
    cursor = lab.journal_cursor()
    status, _ = lab.try_create(GuestConfig("mine", "pv", instance.line))
    expect(status != 0, "a guest got a TPM although its vault is locked")
    expect_in("gets no TPM", lab.journal("vtpmd@*", since=cursor), "the journal of vtpmd")
    expect(lab.sh("vtpmctl create --name new --tpm 1.2").status != 0, "an instance was created with another chip")
    expect(lab.sh("vtpmctl setup").status != 0 or "nothing was changed" in lab.sh("vtpmctl setup").out,
           "vtpmctl setup took the other chip")
    vtpm.expect_nothing_left(lab)
