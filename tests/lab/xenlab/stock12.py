"""What a stock Linux guest does with a TPM 1.2, the same for PV and PVH."""

import hashlib
import re
import time

from . import vtpm
from .expect import expect, expect_equal
from .guest import Guest
from .guesttpm import GuestTpm12
from .lab import Lab
from .say import step

SYSFS = "/sys/class/tpm/tpm0"
PCR = 10
# The stock driver gives a back end that does not answer its Closing 5 s. The rest is an emulated machine's slowness.
SHUTDOWN_S = 60


def exercise(lab: Lab, kind: str) -> None:
    """Creates an instance and a guest, uses the TPM, and shuts the guest down."""
    instance = vtpm.create(lab, f"{kind}12", "1.2")
    guest = lab.create_guest(f"{kind}12", kind, instance.line)
    _check_sysfs(guest)
    _check_pcr(guest)
    _check_shutdown(lab, guest)
    vtpm.expect_nothing_left(lab)
    vtpm.delete(lab, instance)


def _check_sysfs(guest: Guest) -> None:
    step("the stock driver shows a TPM 1.2 with PCRs, capabilities and timeouts")
    guest.check("[ -c /dev/tpm0 ]")
    expect_equal(guest.check(f"cat {SYSFS}/tpm_version_major"), "1", "tpm_version_major")
    pcrs = guest.check(f"cat {SYSFS}/device/pcrs {SYSFS}/pcrs 2>/dev/null | sort -u").splitlines()
    expect_equal(len(pcrs), 24, "number of PCRs")
    caps = guest.check(f"cat {SYSFS}/caps")
    expect(re.search(r"TCG version: 1\.2", caps), f"caps do not tell version 1.2:\n{caps}")
    timeouts = re.findall(r"\d+", guest.check(f"cat {SYSFS}/timeouts").split("[")[0])
    expect(len(timeouts) == 4 and all(int(t) > 0 for t in timeouts), f"timeouts are {timeouts}")
    expect(re.search(r"[1-9]", guest.check(f"cat {SYSFS}/durations")), "the durations are all zero")
    expect("starting up the TPM manually" not in guest.check("dmesg"), "the kernel had to start the TPM itself")


def _sysfs_pcr(guest: Guest) -> bytes:
    line = guest.check(f"grep '^PCR-{PCR}:' {SYSFS}/pcrs")
    return bytes.fromhex(line.split(":")[1].replace(" ", ""))


def _check_pcr(guest: Guest) -> None:
    step("an extended PCR reads back as SHA1(old || data), raw and in sysfs; random numbers differ")
    raw = GuestTpm12(guest).raw
    before, data = _sysfs_pcr(guest), bytes(range(20))
    wanted = hashlib.sha1(before + data).digest()
    expect_equal(raw.extend(PCR, data), wanted, "the answer to Extend")
    expect_equal(raw.pcr_read(PCR), wanted, "the answer to PCRRead")
    expect_equal(_sysfs_pcr(guest), wanted, "the PCR in sysfs")
    expect(raw.get_random(16) != raw.get_random(16), "the same random bytes twice")


def _check_shutdown(lab: Lab, guest: Guest) -> None:
    step("the guest powers itself off without waiting for its TPM")
    begin = time.monotonic()
    guest.sh("poweroff")
    guest.wait_gone(SHUTDOWN_S * 3)
    took = time.monotonic() - begin
    log = guest.console_log()
    expect("timeout closing device" not in log, f"the TPM held up the shutdown:\n{log[-2000:]}")
    expect("reboot: " in log, f"no orderly power-off:\n{log[-2000:]}")
    expect(took < SHUTDOWN_S, f"the power-off took {took:.0f} s")
    lab.guests.remove(guest)
