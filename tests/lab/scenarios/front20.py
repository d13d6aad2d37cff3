"""The package xen-vtpm-guest in a stock guest: a whole TPM 2.0, which outlives vtpm-front, a save and the host's daemons."""

import hashlib

from xenlab import guestfront, vtpm
from xenlab.expect import expect, expect_equal
from xenlab.guest import Guest, GuestConfig
from xenlab.lab import Lab
from xenlab.product import find_deb
from xenlab.say import step

NEEDS_PRODUCT = True
OWN_HOST = False
FRONT = "vtpm-front --background vtpm-0 2>/dev/kmsg"
TOOLS = "export TPM2TOOLS_TCTI=device:/dev/tpmrm0; "
SAVE = "/var/tmp/front20.save"


def run(lab: Lab) -> None:
    """PV, with all that may happen; PVH; and a TPM 1.2, which is left alone."""
    ramdisk = guestfront.install(lab, find_deb(lab.directory))
    _pv(lab, ramdisk)
    _pvh(lab, ramdisk)
    _left_alone(lab, ramdisk)
    vtpm.expect_nothing_left(lab)


def _pv(lab: Lab, ramdisk: str) -> None:
    instance = vtpm.create(lab, "front20", "2.0")
    guest = _start(lab, GuestConfig("front20", "pv", instance.line, ramdisk=ramdisk))
    measured = _extend(guest, _pcr(guest), "a1" * 32)
    step("tools need not flush: the resource manager is there")
    guest.check(f"{TOOLS} for i in 1 2 3 4 5; do tpm2_createprimary -C o -c /tmp/p$i >/dev/null || exit 1; done; "
                "tpm2_readpublic -c /tmp/p1 >/dev/null", 300)
    step("the kernel takes random numbers from it")
    expect("tpm-rng" in guest.check("cat /sys/class/misc/hw_random/rng_available"), "no tpm-rng")
    _takeover(guest)
    _ended_and_started(guest)
    step("the host's daemons are restarted, and vtpmd is killed")
    _disturb(lab, guest)
    expect_equal(_pcr(guest), measured, "PCR 16 after all this")
    step("xl save and xl restore")
    guest.save(SAVE)
    guest = lab.restore_guest("front20", SAVE)
    _wait_answers(guest)
    expect_equal(_pcr(guest), measured, "PCR 16 after a restore")
    expect_equal(_extend(guest, measured, "b2" * 32), _pcr(guest), "PCR 16 after a restore, extended")
    step("after a reboot the PCR is zero")
    guest.sh("reboot", 20)
    guest.wait_restarted()
    guest.check(FRONT)
    expect_equal(_pcr(guest), bytes(32), "PCR 16 of a new life")
    _end(lab, guest, instance)


def _pvh(lab: Lab, ramdisk: str) -> None:
    instance = vtpm.create(lab, "front20h", "2.0")
    guest = _start(lab, GuestConfig("front20h", "pvh", instance.line, ramdisk=ramdisk))
    _extend(guest, _pcr(guest), "c3" * 32)
    _end(lab, guest, instance)


def _left_alone(lab: Lab, ramdisk: str) -> None:
    step("a TPM 1.2 stays the kernel driver's")
    instance = vtpm.create(lab, "front12", "1.2")
    guest = lab.start_guest(GuestConfig("front12", "pv", instance.line, ramdisk=ramdisk))
    guest.wait_ready(300)
    _, said = guest.sh("vtpm-front vtpm-0 2>&1")
    expect("TPM 1.2: left to the kernel's driver" in said, f"vtpm-front said: {said}")
    expect_equal(guest.check("cat /sys/class/tpm/tpm0/tpm_version_major"), "1", "version that the kernel sees")
    guest.check("test -c /dev/tpm0 && test -e /sys/bus/xen/devices/vtpm-0/driver")
    _end(lab, guest, instance)


def _start(lab: Lab, config: GuestConfig) -> Guest:
    """The kernel's driver has taken the device as a TPM 1.2 before vtpm-front comes."""
    guest = lab.start_guest(config)
    guest.wait_ready(300)
    step(f"{config.kind}: vtpm-front makes /dev/tpm0 and /dev/tpmrm0")
    expect("tpmrm0" not in guest.check("ls /dev"), "the kernel made a /dev/tpmrm0 by itself")
    node = f"{vtpm.BACKENDS}/{guest.domid}/0/tpm-version"
    expect_equal(lab.check(f"xenstore-read {node}"), "2.0", "what the back end says that it is")
    guest.check(FRONT)
    guest.check("test -c /dev/tpm0 && test -c /dev/tpmrm0")
    expect_equal(guest.check("cat /sys/class/tpm/tpm0/tpm_version_major"), "2", "version that the kernel sees")
    return guest


def _pcr(guest: Guest) -> bytes:
    return bytes.fromhex(guest.check(f"{TOOLS} tpm2_pcrread sha256:16").rsplit("0x", 1)[1].strip())


def _extend(guest: Guest, before: bytes, data: str) -> bytes:
    guest.check(f"{TOOLS} tpm2_pcrextend 16:sha256={data}")
    after = hashlib.sha256(before + bytes.fromhex(data)).digest()
    expect_equal(_pcr(guest), after, "PCR 16")
    return after


# TPM2_PCR_Read, for which Linux waits 120 s; for others 0.75 to 2 s, too short for a hand-over under emulation.
READ = "8001000000140000017e00000001000b03000001"
LOOP = (f"( n=0; while [ ! -e /tmp/stop ]; do case $(tpmraw {READ}) in ????????????00000000*) ;; *) echo $n >>/tmp/failed;; "
        "esac; n=$((n+1)); done; echo $n >/tmp/turns ) >/dev/null 2>&1 &")


def _takeover(guest: Guest) -> None:
    step("a second vtpm-front takes the TPM over while it is used")
    before = _pcr(guest)
    first = guest.check("pidof vtpm-front").strip()
    guest.check(f"rm -f /tmp/stop /tmp/failed /tmp/turns; {LOOP} sleep 1; {FRONT}; sleep 1; {FRONT}; sleep 1; touch /tmp/stop")
    guest.check("while [ ! -e /tmp/turns ]; do sleep 0.1; done")
    expect_equal(guest.sh("! test -e /tmp/failed")[0], 0, "a command failed meanwhile")
    expect(int(guest.check("cat /tmp/turns")) > 2, "no commands were sent meanwhile")
    second = guest.check("pidof vtpm-front").strip()
    expect(second != first and len(second.split()) == 1, f"vtpm-front was process {first}, then {second}")
    guest.check("test -c /dev/tpmrm0 && ! test -e /dev/tpmrm1")
    expect_equal(_pcr(guest), before, "PCR 16 after a takeover")


def _ended_and_started(guest: Guest) -> None:
    step("ended and started again: the same TPM, with its PCRs")
    before = _pcr(guest)
    guest.check("kill $(pidof vtpm-front); while pidof vtpm-front; do sleep 0.1; done; ! test -e /dev/tpmrm0")
    guest.check(FRONT)
    expect_equal(_pcr(guest), before, "PCR 16 after a restart")


def _disturb(lab: Lab, guest: Guest) -> None:
    unit = vtpm.unit(guest.domid)
    for deed in (f"systemctl restart {unit}", "systemctl restart vtpmmgrd",
                 f"kill -9 $(systemctl show --value -p MainPID {unit})"):
        lab.check(deed, 60)
        _wait_answers(guest)


def _wait_answers(guest: Guest) -> None:
    """Linux waits 0.75 to 2 s for some commands of a TPM 2.0: too short for a restart under emulation."""
    status, _ = guest.sh(f"{TOOLS} for i in $(seq 40); do tpm2_getrandom --hex 8 && exit 0; sleep 0.5; done; exit 1", 120)
    expect_equal(status, 0, f"the TPM does not answer; the guest's console:\n{guest.console_log()[-3000:]}\n; status")


def _end(lab: Lab, guest: Guest, instance: vtpm.Instance) -> None:
    guest.sh("kill $(pidof vtpm-front)")
    guest.shutdown()
    expect("kernel BUG" not in guest.console_log(), "the guest's kernel stopped on something")
    expect("timeout closing device" not in guest.console_log(), "the TPM held up the shutdown")
    vtpm.delete(lab, instance)
