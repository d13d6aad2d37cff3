"""A guest whose TPM was announced while nobody listened gets it once the services are there."""

from concurrent.futures import ThreadPoolExecutor

from xenlab import vtpm
from xenlab.expect import expect, expect_equal
from xenlab.guest import Guest, GuestConfig
from xenlab.guesttpm import GuestTpm12
from xenlab.lab import Lab, Result
from xenlab.say import step

NEEDS_PRODUCT = True
OWN_HOST = False
WAITING = f"xenstore-ls {vtpm.BACKENDS} 2>/dev/null | grep -q 'state = \"1\"'"
# xl's ten seconds are real ones, and an emulated host on a busy machine may need them all to start two processes.
ATTEMPTS = 3


def run(lab: Lab) -> None:
    """Takes the udev rule away while the node appears."""
    instance = vtpm.create(lab, "late", "1.2")
    rule = lab.check("dpkg -L xen-vtpm | grep '/rules.d/.*vtpm'")
    for attempt in range(ATTEMPTS):
        step("udev does not know of the product when xl makes the node; then the services start, and find it")
        result = _create_unheard(lab, instance, rule)
        if result.status == 0:
            break
        expect(attempt + 1 < ATTEMPTS, f"xl create failed each time:\n{result.out}")
        vtpm.expect_nothing_left(lab)
    guest = Guest(lab, "late")
    lab.guests.append(guest)
    guest.wait_ready()
    expect_equal(len(GuestTpm12(guest).raw.get_random(8)), 8, "number of random bytes from the late TPM")
    guest.destroy()
    vtpm.expect_nothing_left(lab)
    vtpm.delete(lab, instance)


def _create_unheard(lab: Lab, instance: vtpm.Instance, rule: str) -> Result:
    """Runs xl create without the rule, and the coldplug service as soon as the node waits."""
    lab.check(f"mv {rule} /run/lab/rule && udevadm control --reload")
    try:
        with ThreadPoolExecutor(1) as background:
            created = background.submit(lab.try_create, GuestConfig("late", "pv", instance.line))
            # One command for both: on the way out and back in, seconds of xl's ten would be lost.
            heard = f"{WAITING} && ! pgrep -x vtpmd && systemctl restart vtpm-coldplug.service"
            expect(lab.wait_store(vtpm.BACKENDS, heard, 90), "xl made no node that waits, or someone had heard of it")
            return created.result()
    finally:
        lab.check(f"mv /run/lab/rule {rule} && udevadm control --reload")
