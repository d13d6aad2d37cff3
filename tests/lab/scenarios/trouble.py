"""Full disk, read-only disk, chip busy and gone, clock, journal: who writes nothing goes on, the others later."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from xenlab import vtpm
from xenlab.agent import LabError
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.pcrs import GuestPcr
from xenlab.say import say, step, timed
from xenlab.tpm12 import Tpm12Error

NEEDS_PRODUCT = True
OWN_HOST = True
SIZE = 32
BUSY_S = 8
# As an administrator would leave it: to the last block of those that are not root's.
FILL = "su -s /bin/sh nobody -c 'cat /dev/zero >/var/tmp/fill' 2>/dev/null; df /var/tmp"
JOURNAL = "systemd-journald.socket systemd-journald-dev-log.socket systemd-journald.service"


class Case:
    """One guest with what its TPM has acknowledged."""

    def __init__(self, lab: Lab, version: str) -> None:
        self.lab = lab
        self.version = version
        self.instance = vtpm.create(lab, f"trouble{version.replace('.', '')}", version)
        self.guest = lab.create_guest(self.instance.name, "pv", self.instance.line)
        self.pcr = b""
        self.secret = b""
        expect(self.write(), "a TPM that is in no trouble does not write")

    def go_on(self, during: str) -> None:
        """What needs no write works: random numbers, and a PCR that is changed and read back."""
        self.pcr = GuestPcr(self.guest, self.version).extend()
        expect_equal(GuestPcr(self.guest, self.version).read(), self.pcr, f"PCR of TPM {self.version} with {during}")

    def write(self) -> bool:
        """Writes to NV; False: the TPM said no, or not in time."""
        secret = secrets.token_bytes(SIZE)
        try:
            tpm_of(self.guest, self.version).write_secret(secret)
        except (LabError, Tpm12Error):
            return False
        self.secret = secret
        return True

    def check(self, after: str) -> None:
        """The TPM is the same, in no failure mode, has what it has acknowledged, and writes."""
        expect_equal(GuestPcr(self.guest, self.version).read(), self.pcr, f"PCR of TPM {self.version} after {after}")
        found = tpm_of(self.guest, self.version).read_secret(SIZE)
        # A write that got an error may be done all the same, once the cause is gone.
        expect(found == self.secret or self.failed, f"NV of TPM {self.version} after {after}: {found.hex()}")
        self.failed = False
        expect(any(self.write() for _ in range(5)), f"TPM {self.version} cannot write after {after}")
        expect_equal(tpm_of(self.guest, self.version).read_secret(SIZE), self.secret, f"NV after {after}")

    def ask_the_time(self, when: str) -> None:
        """TPM_GetTicks, or TPM2_ReadClock: a TPM 1.2 for which time went back is in failure mode."""
        command = {"1.2": "00c10000000a000000f1", "2.0": "80010000000a00000181"}[self.version]
        answer = self.guest.check(f"tpmraw {command}", 240)
        expect_equal(answer[12:20], "00000000", f"code of TPM {self.version}'s time {when}")

    failed = False


def run(lab: Lab) -> None:
    """One trouble after the other for two guests that run all the time, and that are destroyed and created at the end."""
    with timed("booting"):
        lab.boot(cpus=1)
    cases = [Case(lab, version) for version in ("1.2", "2.0")]
    _full_disk(lab, cases)
    _read_only(lab, cases)
    _chip_gone(lab, cases)
    _chip_busy(lab, cases)
    _clock(lab, cases)
    _journal(lab, cases)
    step("both guests start again")
    for case in cases:
        case.guest.destroy()
        vtpm.wait_free(lab, case.instance.name)
        case.guest = lab.create_guest(case.instance.name, "pv", case.instance.line)
        expect_equal(tpm_of(case.guest, case.version).read_secret(SIZE), case.secret, "NV in the next life")
    expect_equal(_status(lab)["state"], "open", "the vault's state")


@contextmanager
def _trouble(cases: list[Case], what: str, writes: bool | None) -> Iterator[None]:
    """In its midst all guests go on and try to write; after it they are as they were. writes: whether a write must
    succeed meanwhile; None: it may."""
    yield
    for case in cases:
        case.go_on(what)
        wrote = case.write()
        say(f"  TPM {case.version} with {what}: a write {'succeeds' if wrote else 'is refused'}")
        case.failed = not wrote
        expect(writes is None or wrote == writes, f"TPM {case.version} with {what}: a write {'' if wrote else 'did not '}succeed")
        case.go_on(what)


def _full_disk(lab: Lab, cases: list[Case]) -> None:
    step("the disk is full")
    with _trouble(cases, "a full disk", None):
        say("  " + lab.check(FILL, 300).splitlines()[-1])
    said = lab.sh("for i in $(seq 300); do vtpmctl create --name full$i || break; done", 300).out
    expect_in("full", said, "vtpmctl create on a full disk")
    lab.check("rm /var/tmp/fill")
    for case in cases:
        case.check("a full disk")
    lab.check("vtpmctl create --name notfull")


def _read_only(lab: Lab, cases: list[Case]) -> None:
    step("the disk is read-only, as after an error")
    with _trouble(cases, "a read-only disk", False):
        lab.check("echo u >/proc/sysrq-trigger")
        expect(lab.wait_until("! touch /var/tmp/writable 2>/dev/null", 30), "the disk can be written")
    lab.check("mount -o remount,rw /")
    for case in cases:
        case.check("a read-only disk")


def _chip_gone(lab: Lab, cases: list[Case]) -> None:
    step("the chip is gone")
    driver = lab.check("readlink -f /sys/class/tpm/tpm0/device/driver")
    device = lab.check("basename $(readlink -f /sys/class/tpm/tpm0/device)")
    epoch = _epoch(lab)
    with _trouble(cases, "a chip that is gone", True):
        lab.check(f"echo {device} >{driver}/unbind")
    lab.sh("vtpmctl create --name nochip")
    told = lab.wait_until("vtpmctl status | grep -q 'chip does not take the commit'", 60)
    expect(told, f"vtpmctl status without a chip: {lab.sh('vtpmctl status').out}")
    lab.check(f"echo {device} >{driver}/bind")
    back = lab.wait_until("! vtpmctl status | grep -q 'chip does not take the commit'", 90)
    expect(back and _epoch(lab) > epoch, f"after the chip is back: {lab.sh('vtpmctl status').out}")
    for case in cases:
        case.check("a chip that was gone")


def _chip_busy(lab: Lab, cases: list[Case]) -> None:
    step(f"the chip answers nothing for {BUSY_S} s, while vtpmmgrd wants something from it")
    lab.machine.hang_chip(True)
    lab.check(f"(vtpmctl create --name busychip >/run/lab/busy 2>&1; echo $? >>/run/lab/busy) >/dev/null 2>&1 & sleep {BUSY_S}")
    lab.machine.hang_chip(False)
    expect(lab.wait_until("tail -n 1 /run/lab/busy | grep -q '^0$'", 60), f"vtpmctl create: {lab.sh('cat /run/lab/busy').out}")
    for case in cases:
        case.check("a busy chip")


def _clock(lab: Lab, cases: list[Case]) -> None:
    for when in ("2040-01-01", "1990-01-01"):
        step(f"the clock jumps to {when}")
        epoch = _epoch(lab)
        with _trouble(cases, "a clock that jumps", True):
            lab.check(f"date +%s >/run/lab/clock && date -s {when}")
        lab.check("vtpmctl create --name clock && vtpmctl delete clock --yes")
        expect(_epoch(lab) > epoch, "no commit after the clock had jumped")
        for case in cases:
            case.ask_the_time("after a jump")
            lab.check(f"systemctl restart {vtpm.unit(case.guest.domid)}", 60)
            case.ask_the_time("in the next engine, which begins with the clock that jumped")
        lab.check("date -s @$(cat /run/lab/clock)")
        for case in cases:
            case.ask_the_time("after the clock was right again")
            case.check("a clock that jumped")


def _journal(lab: Lab, cases: list[Case]) -> None:
    step("the journal stands still, and is down")
    with _trouble(cases, "a journal that stands still", True):
        lab.check("kill -STOP $(systemctl show --value -p MainPID systemd-journald)")
        for _ in range(2):
            lab.check("systemctl restart vtpmmgrd", 60)
            expect(lab.wait_until("vtpmctl status >/dev/null", 30), "vtpmmgrd does not come back without a journal")
    lab.check("kill -CONT $(systemctl show --value -p MainPID systemd-journald)")
    with _trouble(cases, "no journal", True):
        lab.sh(f"systemctl stop {JOURNAL}")
        expect(lab.sh("systemctl is-active systemd-journald").status != 0, "the journal is not down")
        lab.check("systemctl restart vtpmmgrd", 60)
        for case in cases:
            lab.check(f"systemctl restart {vtpm.unit(case.guest.domid)}", 60)
    lab.check(f"systemctl start {JOURNAL}")
    for case in cases:
        case.check("a journal that was down")


def _status(lab: Lab) -> dict:
    return json.loads(lab.check("vtpmctl status --json"))


def _epoch(lab: Lab) -> int:
    return int(_status(lab)["freshness"]["epoch"])
