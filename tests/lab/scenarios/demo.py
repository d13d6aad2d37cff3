"""The story from end to end, told as a transcript: this is what tests/demo runs."""

import hashlib
import mmap
import os
import sys
import textwrap
from pathlib import Path

from xenlab.chip import Chip
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import Guest, GuestConfig
from xenlab.lab import Lab
from xenlab.product import INSTALL, find_deb
from xenlab.say import step, timed
from xenlab.tpm12 import Tpm12

NEEDS_PRODUCT = False  # installing it is part of the story
OWN_HOST = True

SECRET = b"correct horse battery staple"
SECRET_INDEX = 0x1101
PCR = 10
MEASURED = hashlib.sha1(b"the program that the guest trusts").digest()

COLOURS = {"chapter": "1", "dom0": "36", "web1": "32", "note": "2"}


class Transcript:
    """What was done, by whom, and what came of it; printed at the end."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._lines: list[str] = []
        self._chapters = 0
        self._colour = sys.stdout.isatty() and "NO_COLOR" not in os.environ

    def _paint(self, kind: str, text: str) -> str:
        return f"\033[{COLOURS[kind]}m{text}\033[0m" if self._colour else text

    def chapter(self, title: str) -> None:
        """Begins a chapter."""
        step(title)
        self._chapters += 1
        self._lines += ["", self._paint("chapter", f"{self._chapters}. {title}"), ""]

    def note(self, text: str) -> None:
        """Adds an explanation."""
        self._lines += [self._paint("note", line) for line in textwrap.wrap(text, 96)]

    def typed(self, who: str, what: str, said: str) -> None:
        """Adds something typed, and what it said."""
        self._lines.append(self._paint(who, f"{who}# {what}"))
        self._lines += [f"    {line}" for line in said.rstrip("\n").splitlines()]

    def dom0(self, cmd: str, shown: str = "", timeout: float = 120, status: int = 0) -> str:
        """Runs a command in dom0 that must end with `status`; returns what it said."""
        done, out = self._lab.sh(cmd, timeout)
        self.typed("dom0", shown or cmd, out)
        expect_equal(done, status, f"the status of '{cmd}', which said:\n{out}\nIt")
        return out.rstrip("\n")

    def guest(self, guest: Guest, cmd: str) -> str:
        """Runs a command in the guest that must succeed; returns what it said."""
        out = guest.check(cmd)
        self.typed("web1", cmd, out)
        return out

    def print(self) -> None:
        """Prints all of it."""
        print("\n" + "-" * 96 + "\n" + "\n".join(self._lines) + "\n" + "-" * 96 + "\n", flush=True)


def run(lab: Lab) -> None:
    """Tells the story; prints as much of it as there was, whatever happens."""
    story = Transcript(lab)
    try:
        _tell(lab, story)
    finally:
        story.print()


def _tell(lab: Lab, story: Transcript) -> None:
    deb = find_deb(lab.directory)
    with timed("booting a host with Xen and a TPM 2.0 chip"):
        lab.boot()
    _install(lab, story, deb)
    line = _create(story)
    guest = _use(lab, story, line)
    _look_from_dom0(lab, story, guest)
    _end_guest(lab, story, guest)
    _reboot(lab, story, line)
    _search_disk(lab, story)
    _other_chip(lab, story, line)


def _install(lab: Lab, story: Transcript, deb: Path) -> None:
    story.chapter("An administrator installs the package on a host with Xen and a TPM 2.0 chip")
    story.dom0("xl info | grep -E '^(xen_version|xen_caps)'")
    story.dom0("ls -l /dev/tpm0")
    lab.agent.put("/run/lab/xen-vtpm_lab.deb", deb.read_bytes())
    with timed("apt install"):
        out = lab.check(INSTALL, 600)
    story.typed("dom0", "apt install ./xen-vtpm_*.deb",
                "\n".join(line for line in out.splitlines() if "xen-vtpm" in line and "/" not in line))
    story.dom0("ls -l /dev/tpm0")
    story.note("The chip belongs to the manager from now on.")


def _create(story: Transcript) -> str:
    story.chapter("The host is made ready, and a guest's TPM is made")
    story.dom0("vtpmctl setup --recovery-out /root/xen-vtpm-recovery", timeout=600)
    line = story.dom0("vtpmctl create --name web1 --tpm 1.2")
    expect_in('vtpm=["backend=0,uuid=', line, "what vtpmctl create printed")
    story.note("That line goes into the guest's file, /etc/xen/web1.cfg.")
    story.dom0("vtpmctl list")
    story.dom0("vtpmctl doctor")
    return line.splitlines()[-1]


def _start(lab: Lab, line: str) -> Guest:
    with timed("starting the guest"):
        return lab.create_guest("web1", "pv", line)


def _tpm_of(guest: Guest) -> Tpm12:
    return Tpm12(lambda command: bytes.fromhex(guest.check(f"tpmraw {command.hex()}")))


def _use(lab: Lab, story: Transcript, line: str) -> Guest:
    story.chapter("The guest, a stock Debian kernel, finds a TPM and uses it")
    guest = _start(lab, line)
    story.typed("dom0", "xl create /etc/xen/web1.cfg", lab.check("xl list"))
    story.guest(guest, "ls -l /dev/tpm0; cat /sys/class/tpm/tpm0/tpm_version_major")
    tpm = _tpm_of(guest)
    before = tpm.pcr_read(PCR)
    after = tpm.extend(PCR, MEASURED)
    expect_equal(after, hashlib.sha1(before + MEASURED).digest(), "the extended PCR")
    expect_equal(tpm.pcr_read(PCR), after, "the PCR read back")
    story.typed("web1", f"(TPM_Extend PCR {PCR} with the digest of a program)", "")
    story.guest(guest, f"grep 'PCR-{PCR}:' /sys/class/tpm/tpm0/pcrs")
    tpm.nv_define(SECRET_INDEX, len(SECRET))
    tpm.nv_write(SECRET_INDEX, SECRET)
    expect_equal(tpm.nv_read(SECRET_INDEX, len(SECRET)), SECRET, "the secret read back")
    story.typed("web1", f"(TPM_NV_DefineSpace and TPM_NV_WriteValue, index {SECRET_INDEX:#x})",
                f'wrote "{SECRET.decode()}"')
    return guest


def _look_from_dom0(lab: Lab, story: Transcript, guest: Guest) -> None:
    story.chapter("What dom0 sees meanwhile")
    story.dom0("vtpmctl list")
    story.dom0("ps -o user:12,pid,args -C vtpmmgrd,vtpmd,vtpm-engine")
    status = story.dom0("grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/$(pidof vtpm-engine)/status")
    expect_in("Seccomp:\t2", status, "the engine's confinement")
    expect_in("CapBnd:\t0000000000000000", status, "the engine's confinement")
    story.note("The engine, the one process that the guest's bytes reach: a user of its own, no "
               "capability now or ever, and a filter on its system calls.")
    story.dom0(f"journalctl -b --no-pager -o cat -u 'vtpmd@{guest.domid}-0.service'")


def _end_guest(lab: Lab, story: Transcript, guest: Guest) -> None:
    story.chapter("The guest is destroyed; nothing of it stays behind")
    guest.destroy()
    story.typed("dom0", "xl destroy web1", "")
    expect(lab.wait_until("! pidof vtpmd vtpm-engine"), "vtpmd or the engine outlived the guest")
    story.dom0("ps -o user:12,pid,args -C vtpmmgrd,vtpmd,vtpm-engine")
    story.dom0("systemctl list-units --all --plain --no-legend 'vtpmd@*.service' | wc -l")
    story.dom0("vtpmctl list")


def _read_secret(story: Transcript, guest: Guest) -> None:
    secret = _tpm_of(guest).nv_read(SECRET_INDEX, len(SECRET))
    story.typed("web1", f"(TPM_NV_ReadValue, index {SECRET_INDEX:#x})", f'read "{secret.decode("utf-8", "replace")}"')
    expect_equal(secret, SECRET, "the secret")


def _reboot(lab: Lab, story: Transcript, line: str) -> None:
    story.chapter("The host reboots; the guest finds its secret again")
    with timed("rebooting the host"):
        lab.reboot()
    story.typed("dom0", "reboot", "")
    guest = _start(lab, line)
    story.typed("dom0", "xl create /etc/xen/web1.cfg", "")
    _read_secret(story, guest)
    pcr = story.guest(guest, f"grep 'PCR-{PCR}:' /sys/class/tpm/tpm0/pcrs")
    expect_equal(pcr.partition(":")[2].replace(" ", ""), "00" * 20, "the PCR after a power cycle")
    story.note("The PCR is zero again: for the TPM it was a power cycle, as it has to be.")


def _search_disk(lab: Lab, story: Transcript) -> None:
    story.chapter("What lies on the host's disk")
    story.dom0("ls -lR /var/lib/xen-vtpm")
    with timed("shutting the host down"):
        lab.shutdown()
    found = {text: _count(lab.disk, text) for text in (b"auto_create_tpm", SECRET, SECRET.hex().encode())}
    story.note("With the host switched off, all of the disk is searched, unused blocks too.")
    for text, count in found.items():
        story.typed("dom0", f"(how often is {text.decode()!r} on the disk?)", str(count))
    expect(found.pop(b"auto_create_tpm") > 0, "the search finds nothing at all, not even the configuration")
    expect_equal(set(found.values()), {0}, "finds of the secret on the disk")
    story.note("The first is from the configuration file, to show that the search finds what is there. "
               "The guest's secret is not there in clear.")


def _count(disk: Path, text: bytes) -> int:
    with open(disk, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        count, at = 0, data.find(text)
        while at >= 0:
            count, at = count + 1, data.find(text, at + 1)
        return count


def _other_chip(lab: Lab, story: Transcript, line: str) -> None:
    story.chapter("The same disk beside another chip opens nothing")
    with timed("booting with another chip"):
        lab.boot(chip=Chip(lab.directory / "other-chip"))
    files = lab.check("ls /var/lib/xen-vtpm")
    said = lab.sh("vtpmctl status").out
    story.typed("dom0", "vtpmctl status", said)
    expect_in("locked", said, "vtpmctl status beside another chip")
    done, said = lab.try_create(GuestConfig("web1", "pv", line))
    story.typed("dom0", "xl create /etc/xen/web1.cfg", said)
    expect(done != 0, "a guest started beside another chip")
    story.note("xl knows only that it waited in vain. The reason is in the journal:")
    reason = story.dom0("journalctl -b --no-pager -o cat -t vtpmd")
    expect(reason, "vtpmd said nothing about why it refused the guest")
    expect_equal(lab.check("ls /var/lib/xen-vtpm"), files, "the files beside another chip")
    with timed("shutting the host down"):
        lab.shutdown()
    story.chapter("With its own chip back, everything opens")
    with timed("booting with the host's own chip"):
        lab.boot()
    guest = _start(lab, line)
    _read_secret(story, guest)
    story.dom0("vtpmctl list")
