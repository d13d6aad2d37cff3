"""What a TPM has acknowledged survives guest and host restarts, killed daemons and a power cut; the disk shows none of it."""

import os
import secrets

from xenlab import diskscan, enginememory, vtpm
from xenlab.diskscan import Secret
from xenlab.expect import expect, expect_equal
from xenlab.guest import Guest
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
VERSIONS = ("1.2", "2.0")
SIZE = 32


class Case:
    """One guest, its instance, and the secret that its TPM must not forget."""

    def __init__(self, lab: Lab, version: str) -> None:
        self.lab = lab
        self.version = version
        self.instance = vtpm.create(lab, f"keep{version.replace('.', '')}", version)
        self.secret = secrets.token_bytes(SIZE)
        self.guest = self.start()

    def start(self) -> Guest:
        """Starts the guest."""
        self.guest = self.lab.create_guest(self.instance.name, "pv", self.instance.line)
        return self.guest

    def write(self) -> None:
        """Writes a new secret; returns when the guest has the TPM's answer."""
        self.secret = secrets.token_bytes(SIZE)
        tpm_of(self.guest, self.version).write_secret(self.secret)

    def hidden(self) -> list[Secret]:
        """What must not be on the disk."""
        primes = enginememory.primes(self.lab, self.guest.domid, tpm_of(self.guest, self.version).ek_modulus())
        expect(primes, "the endorsement key's primes are not in the engine's memory")
        return [Secret(f"{what} of {self.instance.name}", value)
                for what, value in [("NV secret", self.secret), *(("prime", prime) for prime in primes)]]

    def check(self, after: str) -> None:
        """Reads the secret back."""
        expect_equal(tpm_of(self.guest, self.version).read_secret(SIZE), self.secret, f"TPM {self.version} after {after}")


def run(lab: Lab) -> None:
    """Does everything to both versions at once, as the boots are what takes time. All of it only in a long run."""
    with timed("booting"):
        lab.boot()
    cases = [Case(lab, version) for version in VERSIONS]
    step("the guests write, are destroyed, and start again")
    for case in cases:
        case.write()
    _restart(cases, "xl destroy and xl create")
    if os.environ.get("VTPM_LAB_LONG"):  # else chaos has these
        _reboot_guests(cases)
        _kill_daemons(lab, cases)
    planted = diskscan.plant(lab)
    diskscan.shut_down_and_search(lab, planted, [secret for case in cases for secret in case.hidden()])
    with timed("booting again"):
        lab.boot(lossy=True)
    _start(cases, "a reboot of the host")
    step("the power fails right after the guests had their answers; unflushed writes are lost")
    for case in cases:
        case.write()
    lab.power_cut()
    with timed("booting after the power cut"):
        lab.boot()
    _start(cases, "the power cut")


def _start(cases: list[Case], after: str) -> None:
    for case in cases:
        case.start()
        case.check(after)


def _restart(cases: list[Case], after: str) -> None:
    for case in cases:
        case.guest.destroy()
    _start(cases, after)


def _reboot_guests(cases: list[Case]) -> None:
    step("the guests reboot themselves")
    for case in cases:
        case.write()
        case.guest.sh("reboot")
    for case in cases:
        case.guest.wait_restarted()
        case.check("a reboot from inside")


def _kill_daemons(lab: Lab, cases: list[Case]) -> None:
    step("vtpmd is killed right after a write; the guests go on")
    for case in cases:
        case.write()
        lab.check(f"kill -9 {vtpm.main_pid(lab, vtpm.unit(case.guest.domid))}")
    for case in cases:
        case.check("kill -9 of vtpmd")
    step("vtpm-engine and vtpmmgrd are killed right after a write; the guests start again")
    for case in cases:
        case.write()
        lab.check(f"kill -9 {vtpm.engine_pid(lab, case.guest.domid)}")
    lab.check(f"kill -9 {vtpm.main_pid(lab, 'vtpmmgrd.service')} && systemctl start vtpmmgrd.service")
    _restart(cases, "kill -9 of vtpm-engine and vtpmmgrd")
