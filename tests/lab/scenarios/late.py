"""A guest whose TPM was announced while nobody listened gets it once the services are there."""

from concurrent.futures import ThreadPoolExecutor

from xenlab import vtpm
from xenlab.expect import expect, expect_equal
from xenlab.guest import Guest, GuestConfig
from xenlab.guesttpm import GuestTpm12
from xenlab.lab import Lab
from xenlab.say import step

NEEDS_PRODUCT = True
OWN_HOST = False
WAITING = f"xenstore-ls {vtpm.BACKENDS} 2>/dev/null | grep -q 'state = \"1\"'"


def run(lab: Lab) -> None:
    """Takes the udev rule away while the node appears."""
    instance = vtpm.create(lab, "late", "1.2")
    rule = lab.check("dpkg -L xen-vtpm | grep '/rules.d/.*vtpm'")
    step("udev does not know of the product when xl makes the node")
    with ThreadPoolExecutor(1) as background:
        lab.check(f"mv {rule} /run/lab/rule && udevadm control --reload")
        try:
            created = background.submit(lab.try_create, GuestConfig("late", "pv", instance.line))
            seen = lab.wait_store(vtpm.BACKENDS, WAITING, 90)
        finally:
            lab.check(f"mv /run/lab/rule {rule} && udevadm control --reload")
        expect(seen, "xl made no node that waits")
        expect_equal(lab.sh("systemctl list-units --no-legend 'vtpmd@*'").out, "", "units before the services start")
        step("the services start, and find it within xl's ten seconds")
        lab.check("systemctl restart vtpm-coldplug.service")
        status, out = created.result()
    expect_equal(status, 0, f"xl create ({out.strip()})")
    guest = Guest(lab, "late")
    lab.guests.append(guest)
    guest.wait_ready()
    expect_equal(len(GuestTpm12(guest).raw.get_random(8)), 8, "number of random bytes from the late TPM")
    guest.destroy()
    vtpm.expect_nothing_left(lab)
    vtpm.delete(lab, instance)
