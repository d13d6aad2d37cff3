"""A guest that cannot have its TPM is refused with a reason, and nothing is left behind."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from xenlab import vtpm
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import GuestConfig
from xenlab.lab import Lab
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = False
CPUS = 2
ERRORS = "/local/domain/0/error/backend/vtpm"
# What xenstore tells under the error directory while xl runs: xl takes the nodes away when it gives up.
WATCH = (f"timeout 300 xenstore-watch {ERRORS} | while read -r path; do "
         "case $path in */error) echo \"$path $(xenstore-read $path 2>&1)\";; esac; done >/run/lab/errors")


def run(lab: Lab) -> None:
    """All refusals on one host; at last the same host without its chip, of no use to anyone after that."""
    before = vtpm.names(lab)
    taken = vtpm.create(lab, "taken", "1.2")
    deleted = vtpm.create(lab, "deleted", "1.2")
    vtpm.delete(lab, deleted)
    _refused(lab, "a uuid that nobody created", str(uuid.uuid4()), "vtpmctl create")
    _refused(lab, "a deleted instance", deleted.uuid, "was deleted")
    step("a malformed uuid")
    status, _ = lab.try_create(GuestConfig("malformed", "pv", 'vtpm=["backend=0,uuid=not-a-uuid"]'))
    expect(status != 0, "a malformed uuid was taken")
    vtpm.expect_nothing_left(lab)
    expect_equal(set(vtpm.names(lab)) - set(before), {"taken"}, "instances after all these refusals")
    lab.check("systemctl stop vtpmmgrd.socket vtpmmgrd.service")
    _refused(lab, "the manager is stopped", taken.uuid, "vtpmmgrd")
    lab.check("systemctl start vtpmmgrd.socket vtpmmgrd.service")
    _refused(lab, "the chip gave the keys once in this boot", taken.uuid, "once a boot")
    with timed("rebooting without a chip"):
        lab.shutdown()
        lab.boot(chip=None)
    expect(lab.sh("ls /dev/tpm0").status != 0, "there is a chip")
    _refused(lab, "the host has no chip", taken.uuid, "chip")
    status, out = lab.sh("vtpmctl status")
    expect_in("locked", out, f"vtpmctl status (which ended with {status}) without a chip")
    lab.power_cut()


@contextmanager
def _watching(lab: Lab) -> Iterator[None]:
    pid = lab.check(f"setsid bash -c '{WATCH}' >/dev/null 2>&1 & echo $!")
    yield
    lab.sh(f"kill -- -{pid}")


def _refused(lab: Lab, why: str, wanted: str, reason: str) -> None:
    """Expects xl create to fail, `reason` and the uuid to stand in the journal, and nothing to be left."""
    step(f"refused: {why}")
    cursor = lab.journal_cursor()
    with _watching(lab):
        status, _ = lab.try_create(GuestConfig("refused", "pv", f'vtpm=["backend=0,uuid={wanted}"]'))
    expect(status != 0, f"xl create succeeded although {why}")
    log = lab.journal("vtpmd@*", since=cursor)
    expect_in("gets no TPM", log, "the journal of vtpmd")
    expect_in(reason, log, "the journal of vtpmd")
    errors = lab.check("cat /run/lab/errors")
    expect("/error" in errors, f"no node {ERRORS}/DOMID/0/error was seen")
    step(f"  the error node said: {errors.splitlines()[0]}")
    vtpm.expect_nothing_left(lab)
    expect_equal(lab.check("xl list | tail -n +3"), "", "domains that are left")
    expect_equal(lab.sh(f"xenstore-ls {ERRORS} 2>/dev/null").out.strip(), "", "error nodes that are left")
