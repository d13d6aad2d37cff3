"""The host shuts down and boots with guests that xendomains saves, or shuts down, and starts; many start at once."""

import secrets

from xenlab import vtpm
from xenlab.expect import expect, expect_equal
from xenlab.guest import Guest, GuestConfig
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.pcrs import GuestPcr
from xenlab.say import say, step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
SIZE = 32
AUTO = "/etc/xen/auto"
STORM = 4
# The driver comes back under the next number if the old one was still in use.
BACK = ("for i in $(seq 300); do for d in /dev/tpm[0-9]; do [ -c $d ] || continue; "
        "[ $d = /dev/tpm0 ] || ln -sf $d /dev/tpm0; exit 0; done; sleep 0.2; done; dmesg | tail -30; exit 1")


class Case:
    """A guest that xendomains starts, and what its TPM must remember."""

    def __init__(self, lab: Lab, kind: str, version: str) -> None:
        self.lab = lab
        self.version = version
        self.instance = vtpm.create(lab, f"auto{kind}", version)
        config = GuestConfig(self.instance.name, kind, self.instance.line)
        lab.check(f"mkdir -p {AUTO}")
        lab.agent.put(f"{AUTO}/{self.instance.name}", config.text().encode())
        self.secret = secrets.token_bytes(SIZE)

    def find(self, restored: bool) -> None:
        """Finds the guest that is there after a boot."""
        self.guest = Guest(self.lab, self.instance.name)
        self.lab.guests.append(self.guest)
        if restored:
            self.guest.check(BACK, 150)
        else:
            self.guest.wait_ready(300)

    def use(self) -> None:
        """Changes all that the TPM has."""
        self.zero = GuestPcr(self.guest, self.version).read()
        self.pcr = GuestPcr(self.guest, self.version).extend()
        tpm_of(self.guest, self.version).write_secret(self.secret)

    def check(self, pcr: bytes, after: str) -> None:
        """The TPM has this PCR, and what was written."""
        expect_equal(GuestPcr(self.guest, self.version).read(), pcr, f"PCR of {self.instance.name} after {after}")
        expect_equal(tpm_of(self.guest, self.version).read_secret(SIZE), self.secret, f"NV after {after}")


def run(lab: Lab) -> None:
    """A PV guest with a TPM 1.2 and a PVH guest with a 2.0, all of it left to systemd and xendomains."""
    with timed("booting"):
        lab.boot(cpus=1)
    cases = [Case(lab, "pv", "1.2"), Case(lab, "pvh", "2.0")]
    step("xendomains starts both guests")
    lab.check("systemctl unmask xendomains && systemctl enable xendomains && systemctl daemon-reload")
    lab.check("systemctl start xendomains", 300)
    for case in cases:
        case.find(restored=False)
        case.use()
    step("the host reboots: xendomains saves the guests and restores them")
    _reboot(lab)
    for case in cases:
        case.find(restored=True)
        case.check(case.pcr, "a reboot of the host over which it was saved")
    step("the host reboots: xendomains shuts the guests down and starts them")
    lab.check("sed -i 's/^XENDOMAINS_SAVE=.*/XENDOMAINS_SAVE=/' /etc/default/xendomains")
    _reboot(lab)
    for case in cases:
        case.find(restored=False)
        case.check(case.zero, "a reboot of the host over which it was off")
    lab.destroy_guests()
    vtpm.expect_nothing_left(lab)
    # No PVH guests from here on: so with two processors (see Lab.boot).
    lab.check("systemctl disable xendomains")
    lab.shutdown()
    lab.boot()
    _storm(lab)


def _reboot(lab: Lab) -> None:
    with timed("rebooting the host"):
        lab.shutdown(destroy=False)
        lab.boot(cpus=1)
    last = lab.check("journalctl -b -1 --no-pager -o short-monotonic")
    order = [_last(last, what) for what in ("Stopping xendomains", "Stopped xendomains", "Stopping vtpmmgrd")]
    expect(order == sorted(order), f"lines of the order of the shutdown: {order}")
    for bad in ("gets no TPM", "failure mode", "could not be", "State 'stop-sigterm' timed out"):
        lines = [line for line in last.splitlines() if bad in line and "vtpm" in line]
        expect(not lines, f"in the journal of the boot before: {lines}")
    now = lab.check("journalctl -b --no-pager -o short-monotonic")
    expect(_last(now, "Started vtpmmgrd") < _last(now, "Starting xendomains"), "vtpmmgrd was not there before xendomains")


def _last(log: str, what: str) -> int:
    """Returns the number of the last line about this; units are shown by their descriptions."""
    shown = {"Stopping vtpmmgrd": "Stopping vtpmmgrd.service", "Started vtpmmgrd": "Started vtpmmgrd.service"}
    wanted = shown.get(what, what)
    found = [number for number, line in enumerate(log.splitlines()) if wanted.lower() in line.lower()]
    expect(found, f"no '{wanted}' in the journal:\n{log[-3000:]}")
    return found[-1]


def _storm(lab: Lab) -> None:
    step(f"{STORM} guests are started at once")
    # As docs/operations.md says of hosts with fewer processors than guests.
    lab.check("xl sched-credit2 -d Domain-0 -w 2048")
    instances = [vtpm.create(lab, f"storm{number}", ("1.2", "2.0")[number % 2]) for number in range(STORM)]
    for instance in instances:
        config = GuestConfig(instance.name, "pv", instance.line)
        lab.agent.put(f"/run/lab/{instance.name}.cfg", config.text().encode())
    began, ended = lab.check("awk '{print $1}' /proc/uptime; for cfg in /run/lab/storm*.cfg; do "
                             "xl create $cfg >$cfg.log 2>&1 & done; wait; awk '{print $1}' /proc/uptime", 400).splitlines()
    say(f"  xl create of {STORM} guests at once: {float(ended) - float(began):.1f} s")
    for instance in instances:
        guest = Guest(lab, instance.name)
        lab.guests.append(guest)
        vtpm.wait_connected(lab, guest.domid)
    lab.destroy_guests()
    vtpm.expect_nothing_left(lab)
