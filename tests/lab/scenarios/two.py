"""Two guests at once: different TPMs, nothing shared, and one TPM never in two guests."""

import os
import secrets

from xenlab import vtpm
from xenlab.agent import LabError
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import GuestConfig
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.say import step

NEEDS_PRODUCT = True
OWN_HOST = False
# A pair of TPM 1.2 takes a minute and a half.
VERSIONS = ("1.2", "2.0") if "VTPM_LAB_LONG" in os.environ else ("2.0",)


def run(lab: Lab) -> None:
    """One pair after the other; in a long run of both versions."""
    for version in VERSIONS:
        _check_pair(lab, version)


def _check_pair(lab: Lab, version: str) -> None:
    step(f"TPM {version}: two guests have different endorsement keys")
    short = version.replace(".", "")
    instances = [vtpm.create(lab, f"two{short}{letter}", version) for letter in "ab"]
    guests = [lab.create_guest(i.name, "pv", i.line) for i in instances]
    first, second = (tpm_of(guest, version) for guest in guests)
    expect(first.ek_modulus() != second.ek_modulus(), "both have the same endorsement key")
    step(f"TPM {version}: one does not see the other's NV index")
    secret = secrets.token_bytes(32)
    first.write_secret(secret)
    try:
        expect(False, f"the second TPM holds {second.read_secret(32)!r}")
    except LabError:
        pass
    if version == "2.0":
        _check_second_holder(lab, instances[0])
    expect_equal(first.read_secret(32), secret, "the first guest's NV index after another asked for its TPM")
    for guest in guests:
        guest.destroy()
    vtpm.expect_nothing_left(lab)
    for instance in instances:
        vtpm.delete(lab, instance)


def _check_second_holder(lab: Lab, taken: vtpm.Instance) -> None:
    step("another guest that names a uuid in use is refused, with the reason in the journal")
    cursor = lab.journal_cursor()
    status, _ = lab.try_create(GuestConfig("intruder", "pv", taken.line))
    expect(status != 0, "two guests got the same TPM")
    log = lab.journal("vtpmd@*", since=cursor)
    expect_in(taken.uuid, log, "the journal of vtpmd")
    expect_in("gets no TPM", log, "the journal of vtpmd")
