"""However a guest's power ends, its TPM begins anew and forgets nothing else; TPMs come to running guests and go."""

import secrets
import statistics

from xenlab import vtpm
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import Guest
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.pcrs import GuestPcr
from xenlab.say import say, step, timed

NEEDS_PRODUCT = True
OWN_HOST = False
SIZE = 32
KINDS = {"pv": "1.2", "pvh": "2.0"}
DESTROYS = 3
# xl gives up waiting for a TPM after 10 s, and takes it away by force.
XL_PATIENCE_S = 10.0
# Guests' initramfs with Xen's watchdog, which has to be fed as soon as its device is opened.
WATCHDOG_INITRD = "/run/lab/initrd-watchdog"
MAKE_WATCHDOG_INITRD = f"""set -e -o pipefail
rm -rf /dev/shm/extra && mkdir -p /dev/shm/extra/lib/modules && cd /dev/shm/extra
cp $(modinfo -n watchdog) lib/modules/80-watchdog.ko
cp $(modinfo -n xen_wdt) lib/modules/90-xen_wdt.ko
{{ cat /srv/lab/initrd; find . | cpio --quiet -o -H newc -R 0:0; }} >{WATCHDOG_INITRD}
rm -rf /dev/shm/extra
"""
# Looks for a second engine of the one guest that there is, all the time.
SAMPLE = """setsid bash -c 'most=0; while :; do n=$(pgrep -xc vtpm-engine); [ $n -le $most ] || most=$n
echo $most >/run/lab/engines; sleep 0.2; done' >/dev/null 2>&1 & echo $!"""


class Case:
    """One guest, what its TPM must remember, and what it must forget."""

    def __init__(self, lab: Lab, kind: str) -> None:
        self.lab = lab
        self.kind = kind
        self.version = KINDS[kind]
        self.instance = vtpm.create(lab, f"power{kind}", self.version)
        self.guest = self.create()
        self.zero = self._pcr().read()
        self.secret = secrets.token_bytes(SIZE)
        tpm_of(self.guest, self.version).write_secret(self.secret)

    def create(self) -> Guest:
        """Runs xl create."""
        self.guest = self.lab.create_guest(self.instance.name, self.kind, self.instance.line, ramdisk=WATCHDOG_INITRD,
                                           on_crash="restart")
        return self.guest

    def check_new(self, after: str) -> None:
        """The TPM has begun anew, and is the same one."""
        expect_equal(self._pcr().read(), self.zero, f"PCR of the {self.kind} guest after {after}")
        found = tpm_of(self.guest, self.version).read_secret(SIZE)
        expect_equal(found, self.secret, f"NV of the {self.kind} guest after {after}")
        log = self.lab.journal(vtpm.unit(self.guest.domid))
        expect_in(f"started for domain {self.guest.domid}", log, f"the journal after {after}")
        expect("failure mode" not in log, f"after {after}: {log}")

    def ends_by(self, how: str, deed: str) -> None:
        """The guest does something to itself, or has it done, and is started again by xl."""
        expect(self._pcr().extend() != self.zero, "an extended PCR is as before")
        old = self.guest.domid
        engine = vtpm.engine_pid(self.lab, old)
        if how.startswith("xl "):
            self.lab.check(f"xl {deed} {old}")
        else:
            self.guest.sh(deed, 20)
        with timed(f"{self.kind}, {how}: until the guest is back"):
            self.guest.wait_restarted()
        self.check_new(how)
        expect(vtpm.engine_pid(self.lab, self.guest.domid) != engine, "the engine is still the old one")
        self.check_left(old, how)

    def check_left(self, domid: int, after: str) -> None:
        """Nothing of the old domain's device is there, and nothing took xl's time-outs."""
        gone = f"! systemctl is-active --quiet {vtpm.unit(domid)}"
        expect(self.lab.wait_until(gone, 20), f"the unit of domain {domid} is still there after {after}")
        log = self.lab.journal(vtpm.unit(domid))
        expect("no orderly shutdown" not in log and "stopping it" not in log, f"after {after}: {log}")

    def _pcr(self) -> GuestPcr:
        return GuestPcr(self.guest, self.version)


def run(lab: Lab) -> None:
    """A PV guest with a TPM 1.2, then a PVH guest with a 2.0."""
    lab.check(MAKE_WATCHDOG_INITRD)
    for kind in KINDS:
        _power_cycles(lab, kind)
        _attach(lab, kind)
        _time_destroy(lab, kind)
    _two_at_once(lab)


def _power_cycles(lab: Lab, kind: str) -> None:
    case = Case(lab, kind)
    sampler = lab.check(SAMPLE)
    for how, deed in (("reboot from inside", "reboot"), ("xl reboot", "reboot"),
                      ("a panic", "echo c >/proc/sysrq-trigger"),
                      ("a watchdog that is fed too late", "watchdog -T 5 -t 600 /dev/watchdog")):
        case.ends_by(how, deed)
    step(f"{kind}: xl shutdown and xl create, xl destroy and xl create")
    for end in (Guest.shutdown, Guest.destroy):
        GuestPcr(case.guest, case.version).extend()
        old = case.guest.domid
        end(case.guest)
        case.create()
        case.check_new(f"xl {end.__name__}")
        case.check_left(old, f"xl {end.__name__}")
    lab.check(f"kill -- -{sampler}")
    expect_equal(lab.check("cat /run/lab/engines"), "1", "engines at one moment of the one guest that there was")
    case.guest.destroy()
    vtpm.expect_nothing_left(lab)
    vtpm.delete(lab, case.instance)


def _time_destroy(lab: Lab, kind: str) -> None:
    """Two guests, with and without a TPM, destroyed in turns."""
    instance = vtpm.create(lab, f"timed{kind}", KINDS[kind])
    took: dict[bool, list[float]] = {True: [], False: []}
    for turn in range(DESTROYS):
        guests = {True: lab.create_guest("with", kind, instance.line), False: lab.create_guest("without", kind)}
        for has in (True, False) if turn % 2 else (False, True):
            began, ended = lab.check("awk '{print $1}' /proc/uptime; "
                                     f"xl destroy {guests[has].domid}; awk '{{print $1}}' /proc/uptime").splitlines()
            took[has].append(float(ended) - float(began))
            guests[has].wait_gone()
            lab.guests.remove(guests[has])
        vtpm.wait_free(lab, instance.name)
    ratio = statistics.median(took[True]) / statistics.median(took[False])
    say(f"  xl destroy of a {kind} guest: {statistics.median(took[True]):.2f} s with a TPM and "
        f"{statistics.median(took[False]):.2f} s without; ratio {ratio:.2f}")
    expect(ratio < 2 and max(took[True]) < XL_PATIENCE_S / 2, f"xl destroy takes {took[True]} s with a TPM, {took[False]} without")
    vtpm.delete(lab, instance)


def _attach(lab: Lab, kind: str) -> None:
    step(f"{kind}: xl vtpm-attach of two TPMs to a running guest, vtpm-list, vtpm-detach, and again")
    instances = [vtpm.create(lab, f"hot{kind}{number}", "1.2") for number in range(2)]
    guest = lab.create_guest("hot", kind)
    values = []
    for number, instance in enumerate(instances):
        _xl(lab, f"vtpm-attach {guest.domid} backend=0 uuid={instance.uuid}")
        _wait_node(guest, number, there=True)
        values.append(GuestPcr(guest, "1.2", f"/dev/tpm{number}").extend())
    listed = lab.check(f"xl vtpm-list {guest.domid}")
    for instance in instances:
        expect_in(instance.uuid, listed, "xl vtpm-list")
    expect(values[0] != values[1], "both TPMs have the same PCR")
    secret = secrets.token_bytes(SIZE)
    tpm_of(guest, "1.2").write_secret(secret)  # that of /dev/tpm0
    _detach(lab, guest, 0, instances[0])
    expect_equal(GuestPcr(guest, "1.2", "/dev/tpm1").read(), values[1], "the PCR of the TPM that stayed")
    _xl(lab, f"vtpm-attach {guest.domid} backend=0 uuid={instances[0].uuid}")
    _wait_node(guest, 0, there=True)
    expect_equal(tpm_of(guest, "1.2").read_secret(SIZE), secret, "NV of a TPM that was detached and attached")
    expect(GuestPcr(guest, "1.2").read() != values[0], "a TPM that was detached has its PCRs still")
    step(f"{kind}: a TPM whose device is open is detached")
    guest.check("(exec 3<>/dev/tpm1; sleep 600) >/dev/null 2>&1 &")
    _detach(lab, guest, 1, instances[1])
    expect_equal(tpm_of(guest, "1.2").read_secret(SIZE), secret, "NV of the TPM beside it")
    guest.destroy()
    vtpm.expect_nothing_left(lab)
    for instance in instances:
        vtpm.delete(lab, instance)


def _detach(lab: Lab, guest: Guest, number: int, instance: vtpm.Instance) -> None:
    _xl(lab, f"vtpm-detach {guest.domid} {instance.uuid}")
    _wait_node(guest, number, there=False)
    vtpm.wait_free(lab, instance.name)
    expect(instance.uuid not in lab.check(f"xl vtpm-list {guest.domid}"), f"{instance.name} is still listed")


def _xl(lab: Lab, command: str) -> None:
    """Runs xl, which must not have had to force anything."""
    began, said, ended = lab.check(f"awk '{{print $1}}' /proc/uptime; xl {command} 2>&1 | tr '\\n' ' '; echo; "
                                   "awk '{print $1}' /proc/uptime").split("\n", 2)
    took = float(ended) - float(began)
    say(f"  xl {command.split()[0]}: {took:.1f} s {said.strip()}")
    expect(took < XL_PATIENCE_S - 1 and "error" not in said.lower(), f"xl {command} took {took} s: {said}")


def _wait_node(guest: Guest, number: int, there: bool) -> None:
    want = "" if there else "! "
    guest.check(f"for i in $(seq 150); do {want}[ -c /dev/tpm{number} ] && exit 0; sleep 0.2; done; dmesg | tail; exit 1")


def _two_at_once(lab: Lab) -> None:
    step("a guest that is created with two TPMs has both, and both begin anew when it reboots")
    instances = [vtpm.create(lab, f"twin{number}", version) for number, version in enumerate(("1.2", "2.0"))]
    line = "vtpm=[" + ",".join(f'"backend=0,uuid={instance.uuid}"' for instance in instances) + "]"
    guest = lab.create_guest("twins", "pv", line)
    pcrs = [GuestPcr(guest, version, f"/dev/tpm{number}") for number, version in enumerate(("1.2", "2.0"))]
    zeros = [pcr.read() for pcr in pcrs]
    expect(all(pcr.extend() != zero for pcr, zero in zip(pcrs, zeros)), "an extended PCR is as before")
    guest.sh("reboot", 20)
    guest.wait_restarted()
    expect_equal([pcr.read() for pcr in pcrs], zeros, "PCRs of two TPMs after a reboot")
    guest.destroy()
    vtpm.expect_nothing_left(lab)
    for instance in instances:
        vtpm.delete(lab, instance)
