"""Twenty guests come and go and leave nothing behind."""

from xenlab import vtpm
from xenlab.expect import expect, expect_equal
from xenlab.lab import Lab
from xenlab.say import step

NEEDS_PRODUCT = True
OWN_HOST = False
CYCLES = 20
EVENT_CHANNELS = "/usr/lib/xen-4.17/bin/lsevtchn 0 | wc -l"


def run(lab: Lab) -> None:
    """Half of the guests are destroyed as soon as their TPM is connected, half while it connects."""
    instance = vtpm.create(lab, "cycle", "1.2")
    _cycle(lab, instance, connected=True)
    vtpm.expect_nothing_left(lab)
    before = int(lab.check(EVENT_CHANNELS))
    step(f"{CYCLES} times xl create and xl destroy")
    for number in range(CYCLES):
        _cycle(lab, instance, connected=number % 2 == 0)
    vtpm.expect_nothing_left(lab)
    expect_equal(lab.check("systemctl list-units --failed --plain --no-legend"), "", "failed units")
    settled = lab.wait_until(f"[ $({EVENT_CHANNELS}) -le {before} ]", 30)
    expect(settled, f"event channels of the dom0: {before} before, {lab.check(EVENT_CHANNELS)} after")
    expect_equal(lab.check("xl list | tail -n +3"), "", "domains that are left, dying ones too")
    vtpm.delete(lab, instance)


def _cycle(lab: Lab, instance: vtpm.Instance, connected: bool) -> None:
    guest = lab.create_guest(instance.name, "pv", instance.line, ready=False)
    if connected:
        vtpm.wait_connected(lab, guest.domid)
    guest.destroy()
