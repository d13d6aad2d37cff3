"""A guest's TPM is kept, reverted and cloned with its guest off; an older disk is noticed as ever."""

import json
import secrets

from xenlab import vtpm
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import Guest, GuestConfig
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab, copy_disk
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
PCR = 16
SIZE = 32
VERSION = "2.0"


def run(lab: Lab) -> None:
    """One PV guest and its clone; the disk that is put back is from before the revert."""
    with timed("booting"):
        lab.boot()
    instance = vtpm.create(lab, "mine", VERSION)
    guest = lab.create_guest("mine", "pv", instance.line)
    zero = _pcr(guest)
    old, ek = secrets.token_bytes(SIZE), tpm_of(guest, VERSION).ek_modulus()
    tpm_of(guest, VERSION).write_secret(old)
    _extend(guest)
    step("a running guest's TPM is not kept")
    expect_in("in use by domain", lab.sh("vtpmctl snapshot mine clean").out, "vtpmctl snapshot")
    _shut_down(lab, guest)
    lab.check("vtpmctl snapshot mine clean")

    step("the guest writes something newer, and is reverted")
    guest = lab.create_guest("mine", "pv", instance.line)
    new = secrets.token_bytes(SIZE)
    tpm_of(guest, VERSION).write_secret(new)
    _extend(guest)
    expect_in("in use by domain", lab.sh("vtpmctl revert mine clean --yes").out, "vtpmctl revert")
    _shut_down(lab, guest)
    lab.shutdown()
    copy_disk(lab.disk, lab.directory / "older.img")
    with timed("booting"):
        lab.boot()
    before = _show(lab)["sequence"]
    lab.check("vtpmctl revert mine clean --yes")
    expect_equal((_show(lab)["reverts"], _show(lab)["sequence"]), (1, before + 1), "reverts and writes")
    expect_in("revert", lab.check("vtpmctl log"), "vtpmctl log")
    guest = lab.create_guest("mine", "pv", instance.line)
    expect_equal(_pcr(guest), zero, "the PCR after the revert")
    expect_equal(tpm_of(guest, VERSION).read_secret(SIZE), old, "NV memory after the revert")
    story = _show(lab)["story"]
    expect_equal((story["beginning"], story["engines"], story["failed"]), ("created", 1, False), "the story")

    step("a clone of the snapshot serves a second guest, while the first one runs")
    uuid = json.loads(lab.check("vtpmctl clone mine --name twin --snapshot clean --json"))["uuid"]
    twin = vtpm.Instance("twin", uuid)
    second = lab.create_guest("twin", "pv", twin.line)
    expect_equal(tpm_of(second, VERSION).read_secret(SIZE), old, "NV memory of the clone")
    expect_equal(tpm_of(second, VERSION).ek_modulus(), ek, "the clone's endorsement key")
    tpm_of(second, VERSION).write_secret(new)
    expect_equal(tpm_of(guest, VERSION).read_secret(SIZE), old, "NV memory of the original")
    _shut_down(lab, second, "twin")
    _shut_down(lab, guest)
    vtpm.delete(lab, twin)

    lab.shutdown()
    (lab.directory / "older.img").rename(lab.disk)
    with timed("booting with the disk as it was before the revert"):
        lab.boot()
    step("which is an older state, and is not served")
    cursor = lab.journal_cursor()
    status, _ = lab.try_create(GuestConfig("mine", "pv", instance.line))
    expect(status != 0, "a guest got a TPM from before a revert")
    expect_in("the chip remembers another state", lab.journal("vtpmd@*", since=cursor), "the journal of vtpmd")
    vtpm.expect_nothing_left(lab)


def _show(lab: Lab) -> dict:
    return json.loads(lab.check("vtpmctl show mine --json"))


def _shut_down(lab: Lab, guest: Guest, name: str = "mine") -> None:
    guest.shutdown()
    vtpm.wait_free(lab, name)


def _pcr(guest: Guest) -> str:
    return guest.check(f"tpm2_pcrread sha256:{PCR}")


def _extend(guest: Guest) -> None:
    guest.check(f"tpm2_pcrextend {PCR}:sha256={'5a' * 32}")
