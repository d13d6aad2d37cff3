"""The commands of docs/operations.md, as they stand there: they work, and the TPM is then what the page says."""

import re
import secrets
from pathlib import Path

from xenlab import vtpm
from xenlab.expect import expect, expect_equal
from xenlab.guest import Guest, GuestConfig
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.pcrs import GuestPcr
from xenlab.say import step

NEEDS_PRODUCT = True
OWN_HOST = False
PAGE = Path(__file__).resolve().parents[3] / "docs/operations.md"
NEW, KEPT = "new", "kept"
# By the sections' titles: what becomes of the guest's PCRs, and whether it is another domain afterwards.
PCRS = {
    "Where to look": (KEPT, False),
    "Reboot, shutdown, crash": (NEW, True),
    "Save and restore": (KEPT, True),
    "Attach and detach": (KEPT, False),
    "Restart and upgrade of the daemons": (KEPT, False),
    "Snapshots": (NEW, True),
    "The disk is full, or cannot be written": (KEPT, False),
    "What a TPM in failure mode looks like": (NEW, True),
}
SIZE = 32
BACK = ("for i in $(seq 300); do for d in /dev/tpm[0-9]; do [ -c $d ] || continue; "
        "[ $d = /dev/tpm0 ] || ln -sf $d /dev/tpm0; exit 0; done; sleep 0.2; done; exit 1")


# The guest's drivers have come up with all the TPMs that xl has given it.
SEEN = "[ $(ls /sys/class/tpm | wc -l) = {} ]"


def blocks() -> dict[str, list[str]]:
    """Returns the page's blocks of commands by the titles of their sections."""
    found: dict[str, list[str]] = {}
    for section in PAGE.read_text(encoding="utf-8").split("\n## ")[1:]:
        commands = re.findall(r"^```sh\n(.*?)^```$", section, re.S | re.M)
        if commands:
            found[section.splitlines()[0]] = commands
    return found


def run(lab: Lab) -> None:
    """One guest, web1, through all of the page."""
    sections = blocks()
    expect_equal(list(sections), list(PCRS), "sections of the page that have commands")
    instance = vtpm.create(lab, "web1", "1.2")
    lab.agent.put("/etc/xen/web1.cfg", GuestConfig("web1", "pv", instance.line).text().encode())
    lab.check("xl create /etc/xen/web1.cfg")
    guest = Guest(lab, "web1")
    lab.guests.append(guest)
    guest.wait_ready()
    zero = GuestPcr(guest, "1.2").read()
    secret = secrets.token_bytes(SIZE)
    tpm_of(guest, "1.2").write_secret(secret)
    for title, commands in sections.items():
        pcrs, another = PCRS[title]
        extended = GuestPcr(guest, "1.2").extend()
        before = guest.domid
        for number, block in enumerate(commands):
            step(f"{title}: {'; '.join(line.split('  ')[0] for line in block.splitlines())}")
            lab.check(f"set -e\n{block}", 300)
            if number + 1 < len(commands):
                has = int(lab.check("xl vtpm-list web1 | grep -c /vtpm/"))
                guest.check(f"for i in $(seq 300); do {SEEN.format(has)} && exit; sleep 0.3; done; exit 1", 150)
        if another:
            guest = _find(lab, before)
        guest.check(BACK, 150) if pcrs == KEPT else guest.wait_ready()
        expect_equal(GuestPcr(guest, "1.2").read(), extended if pcrs == KEPT else zero, f"PCR after '{title}'")
        expect_equal(tpm_of(guest, "1.2").read_secret(SIZE), secret, f"NV after '{title}'")
    guest.destroy()
    vtpm.expect_nothing_left(lab)
    for name in vtpm.names(lab):
        if name.startswith("web1"):
            lab.check(f"vtpmctl delete {name} --yes")
    lab.check("rm /etc/xen/web1.cfg")


def _find(lab: Lab, before: int) -> Guest:
    """Returns the guest in its new domain. A second listener at the console of the old one would take half of it."""
    new = f'd=$(xl domid web1 2>/dev/null) && [ "$d" != {before} ] && xenstore-read /local/domain/$d/console/tty'
    expect(lab.wait_until(f"{new} >/dev/null 2>&1", 120), "web1 does not come back")
    guest = Guest(lab, "web1")
    lab.guests.clear()
    lab.guests.append(guest)
    return guest
