"""PCRs live as long as a guest's power: over save, restore and a manager's restart, and no longer."""

import secrets

from xenlab import vtpm
from xenlab.agent import LabError
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import Guest
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.pcrs import GuestPcr
from xenlab.say import step, timed
from xenlab.tpm12 import Tpm12Error

NEEDS_PRODUCT = True
OWN_HOST = True
SIZE = 32
# The driver comes back under the next number if the old one was still in use.
BACK = ("for i in $(seq 300); do for d in /dev/tpm[0-9]; do [ -c $d ] || continue; "
        "[ $d = /dev/tpm0 ] || ln -s $d /dev/tpm0; exit 0; done; sleep 0.2; done; dmesg | tail -30; ls -l /dev/tpm*; exit 1")


class Case:
    """One guest, what its TPM must remember, and what its PCR is."""

    def __init__(self, lab: Lab, kind: str, version: str) -> None:
        self.lab = lab
        self.kind = kind
        self.version = version
        self.instance = vtpm.create(lab, f"life{version.replace('.', '')}", version)
        self.guest = self.create()
        self.zero = self.read_pcr()
        self.secret = secrets.token_bytes(SIZE)
        tpm_of(self.guest, version).write_secret(self.secret)
        self.pcr = self.zero

    @property
    def file(self) -> str:
        """Where the guest is saved."""
        return f"/var/tmp/{self.instance.name}.save"

    def create(self) -> Guest:
        """Runs xl create."""
        self.guest = self.lab.create_guest(self.instance.name, self.kind, self.instance.line)
        return self.guest

    def save(self) -> None:
        """Runs xl save."""
        self.guest.save(self.file)
        vtpm.wait_free(self.lab, self.instance.name)

    def restore(self) -> None:
        """Runs xl restore, and waits for the driver."""
        self.guest = self.lab.restore_guest(self.instance.name, self.file)
        status, out = self.guest.sh(BACK, 150)
        if status != 0:
            raise LabError(f"the TPM did not come back ({status}):\n{out}\n{self.guest.console_log()[-3000:]}")

    def read_pcr(self) -> bytes:
        """Asks the TPM."""
        return GuestPcr(self.guest, self.version).read()

    def extend(self) -> None:
        """Makes the PCR another one."""
        before, self.pcr = self.pcr, GuestPcr(self.guest, self.version).extend()
        expect(self.pcr not in (before, self.zero), "an extended PCR is as before")

    def check_on(self, after: str) -> None:
        """The TPM has gone on."""
        expect_equal(self.read_pcr(), self.pcr, f"PCR of the {self.kind} guest after {after}")
        self._check_secret(after)

    def check_new(self, after: str) -> None:
        """The TPM has begun anew."""
        expect_equal(self.read_pcr(), self.zero, f"PCR of the {self.kind} guest after {after}")
        self._check_secret(after)
        self.pcr = self.zero

    def check_failed(self, after: str) -> None:
        """The TPM refuses."""
        try:
            seen = self.read_pcr()
        except (LabError, Tpm12Error):
            return
        expect(False, f"the {self.kind} guest has a PCR ({seen.hex()}) after {after}")

    def write(self) -> bool:
        """Tries to write to NV."""
        secret = secrets.token_bytes(SIZE)
        try:
            tpm_of(self.guest, self.version).write_secret(secret)
        except (LabError, Tpm12Error):
            return False
        self.secret = secret
        return True

    def _check_secret(self, after: str) -> None:
        expect_equal(tpm_of(self.guest, self.version).read_secret(SIZE), self.secret, f"NV after {after}")


def run(lab: Lab) -> None:
    """A PV guest with a TPM 1.2 and a PVH guest with a 2.0."""
    with timed("booting"):
        lab.boot(cpus=1)
    cases = [Case(lab, "pv", "1.2"), Case(lab, "pvh", "2.0")]
    for case in cases:
        case.extend()
    _reboot_host(lab, cases)
    _restart_manager(lab, cases)
    _restart_doorman(lab, cases)
    _throw_away(cases[1])
    _checkpoint(lab, cases[0])


def _reboot_host(lab: Lab, cases: list[Case]) -> None:
    step("both guests are saved; the host reboots; they are restored")
    for case in cases:
        case.save()
    vtpm.expect_nothing_left(lab)
    with timed("rebooting the host"):
        lab.shutdown()
        lab.boot(cpus=1)
    for case in cases:
        case.restore()
        case.check_on("a host's reboot between save and restore")


def _restart_manager(lab: Lab, cases: list[Case]) -> None:
    for how in ("systemctl restart vtpmmgrd.service", "kill -9 $(systemctl show --value -p MainPID vtpmmgrd.service)"):
        step(f"{how}: the guests write on")
        engines = [vtpm.engine_pid(lab, case.guest.domid) for case in cases]
        lab.check(how)
        for case in cases:
            expect(any(case.write() for _ in range(20)), f"the {case.kind} guest cannot write after {how}")
            case.check_on(how)
        expect_equal([vtpm.engine_pid(lab, case.guest.domid) for case in cases], engines, "engines")


def _restart_doorman(lab: Lab, cases: list[Case]) -> None:
    step("systemctl restart of vtpmd: another engine goes on, and the guest notices nothing")
    for case in cases:
        before = vtpm.engine_pid(lab, case.guest.domid)
        lab.check(f"systemctl restart {vtpm.unit(case.guest.domid)}")
        case.check_on("systemctl restart of vtpmd")
        expect(vtpm.engine_pid(lab, case.guest.domid) != before, "the engine is still the old one")
        case.extend()


def _throw_away(case: Case) -> None:
    step("a save file is not restored; the guest is created anew, and destroyed; then the file is restored")
    case.save()
    case.create()
    case.check_new("a save that was thrown away")
    case.guest.destroy()
    vtpm.wait_free(case.lab, case.instance.name)
    case.restore()
    case.check_failed("the restore of an older file")
    expect_in("was not suspended with it", case.lab.journal("vtpmd@*"), "the reason in the journal")
    case.guest.destroy()


def _checkpoint(lab: Lab, case: Case) -> None:
    step("xl save -c: the guest runs on; saved again, it has no TPM that could be the other's")
    case.guest.checkpoint(case.file)
    case.check_on("xl save -c")
    case.extend()
    case.save()
    case.restore()
    case.check_failed("the restore of one of two files that look alike")
    expect_in("ran on after it had been saved", lab.journal("vtpmd@*"), "the reason in the journal")
    case.guest.destroy()
