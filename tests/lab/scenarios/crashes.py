"""Daemons that are killed again and again, and upgraded, under guests that keep a log: none of it is wrong."""

import hashlib
import random
import re
import subprocess
import time
from pathlib import Path

from xenlab import vtpm
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import Guest
from xenlab.lab import Lab
from xenlab.product import INSTALL, find_deb
from xenlab.say import say, step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
PCR = 16
INDEX = 0x01500010
KILLS = 25
MANAGER = "vtpmmgrd.service"
# Extends a PCR by the number of the turn, and counts the turn in NV: what is executed twice, or not at
# all, shows in both. The log has the number and both answers' codes.
LOOP = f"""cat >/loop <<'END'
#!/bin/sh
# A command with owner's password authorisation: code, handles, parameters.
authorised() {{
    body=$2$(printf %08x 9)400000090000000000$3
    tpmraw 8002$(printf %08x $((10 + ${{#body}} / 2)))$1$body
}}
n=0
while [ ! -e /stop ]; do
    n=$((n + 1))
    value=$(printf %064x $n)
    extended=$(authorised 00000182 {PCR:08x} 00000001000b$value)
    counted=$(authorised 00000134 40000001{INDEX:08x} '')
    echo "$n ${{extended:12:8}} ${{counted:12:8}}" >>/log
done
echo end >>/log
END
chmod +x /loop; (exec /loop >/loop.out 2>&1 </dev/null &)"""


class Recorder:
    """A guest whose log says what its TPM must show in the end."""

    def __init__(self, lab: Lab, name: str) -> None:
        self.lab = lab
        self.instance = vtpm.create(lab, name, "2.0")
        self.guest: Guest = lab.create_guest(name, "pv", self.instance.line)
        self.guest.check(f"tpm2_nvdefine {INDEX:#x} -C o -s 8 -a 'ownerread|ownerwrite|nt=counter'", 240)
        self.engine = vtpm.engine_pid(lab, self.guest.domid)
        self.guest.check(LOOP)

    @property
    def unit(self) -> str:
        """The unit that serves it."""
        return vtpm.unit(self.guest.domid)

    def turns(self) -> int:
        """How far it has come."""
        return int(self.guest.check("cat /log 2>/dev/null | wc -l", 240))

    def moves_on(self, after: str) -> None:
        """Waits for another turn."""
        before = self.turns()
        for _ in range(120):
            if self.turns() > before + 1:
                return
            time.sleep(0.5)
        expect(False, f"the guest's commands are not answered after {after}")

    def check(self) -> int:
        """Ends the loop and holds the TPM against the log; returns the number of turns."""
        self.guest.check("touch /stop; for i in $(seq 600); do grep -q end /log && exit 0; sleep 0.1; done; exit 1", 240)
        log = self.guest.check("cat /log", 240).split("\n")
        pcr = bytes(32)
        turns = 0
        for line in log:
            if line in ("end", ""):
                continue
            number, extended, counted = (line.split() + ["none", "none"])[:3]
            turns += 1
            expect_equal((int(number), extended, counted), (turns, "00000000", "00000000"), "a line of the guest's log")
            pcr = hashlib.sha256(pcr + turns.to_bytes(32, "big")).digest()
        out = self.guest.check(f"tpm2_pcrread sha256:{PCR}; echo; tpm2_nvread {INDEX:#x} -C o | xxd -p", 240)
        shown = re.search(rf"{PCR}\s*:\s*0x([0-9A-F]{{64}})", out)
        expect(shown is not None and bytes.fromhex(shown[1]) == pcr, f"after {turns} turns the PCR is not what the log makes it:\n{out}")
        # A counter's first value is the number of the increment that gave it one.
        expect_equal(int(out.split()[-1], 16), turns, "NV counter against the log")
        return turns


def run(lab: Lab) -> None:
    """Two guests; systemd restarts what dies."""
    deb = find_deb(lab.directory)
    with timed("booting"):
        lab.boot()
    guests = [Recorder(lab, f"log{i}") for i in range(2)]
    for one in guests:
        one.moves_on("the start")
    _kill(lab, guests)
    for one in guests:
        expect_equal(vtpm.engine_pid(lab, one.guest.domid), one.engine, "engine after the kills")
    _how_long(lab)
    _upgrade(lab, guests, deb)
    _kill(lab, guests)
    for one in guests:
        say(f"{one.instance.name}: {one.check()} turns, each executed once")
    _kill_engine(lab, guests[0])
    _stop(lab, guests[1])
    lab.destroy_guests()
    vtpm.expect_nothing_left(lab)


def _kill(lab: Lab, guests: list[Recorder]) -> None:
    step(f"{KILLS} times kill -9 of a daemon at a random moment")
    dice = random.Random(5)
    for _ in range(KILLS):
        unit = dice.choice([MANAGER, *(one.unit for one in guests)])
        # A write waits 30 s for a manager. Of an emulated host that is a few starts.
        if unit == MANAGER:
            expect(lab.wait_until("vtpmctl status >/dev/null 2>&1", 60), "vtpmmgrd does not come back")
        lab.check(f"sleep {dice.random():.2f}; pid=$(systemctl show --value -p MainPID {unit}); [ $pid = 0 ] || kill -9 $pid")
    for one in guests:
        one.moves_on("the kills")
        expect(lab.wait_until(f"systemctl is-active -q {one.unit}", 60), f"{one.unit} does not come back")


def _how_long(lab: Lab) -> None:
    step("kill -9 of vtpmmgrd: how long until it serves again; a guest's write waits 30 s")
    took = lab.check("for i in 1 2 3; do kill -9 $(systemctl show --value -p MainPID vtpmmgrd.service); a=$(date +%s%N); "
                     "until vtpmctl status >/dev/null 2>&1; do sleep 0.02; done; echo $(( ($(date +%s%N) - a) / 1000000 )); sleep 2; done")
    say(f"milliseconds: {took.split()}")


def _upgrade(lab: Lab, guests: list[Recorder], deb: Path) -> None:
    step("apt installs a newer package, and everything is restarted; the guests notice nothing")
    lab.agent.put("/run/lab/xen-vtpm_lab.deb", _newer(deb, lab.directory).read_bytes())
    said = lab.check(INSTALL, 600)
    expect_in("running guests keep their TPMs", said, "what apt said")
    expect_in("+newer", lab.check("dpkg-query -W xen-vtpm"), "the version that is installed")
    # All at once, vtpmd cannot put its TPM by, and leaves it to the old engine.
    lab.check(f"systemctl restart {MANAGER} 'vtpmd@*'", 240)
    for one in guests:
        one.moves_on("a restart of everything at once")
    lab.check(f"systemctl restart {MANAGER} && systemctl restart 'vtpmd@*'", 240)
    for one in guests:
        one.moves_on("the upgrade")
        expect(vtpm.engine_pid(lab, one.guest.domid) != one.engine, "the engine is still the old one")


def _newer(deb: Path, directory: Path) -> Path:
    """The same package under a higher version."""
    tree, newer = directory / "newer", directory / "newer.deb"
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^(Version: .*)$", r"\1+newer", control.read_text(encoding="utf-8")), encoding="utf-8")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, newer], check=True, stdout=subprocess.DEVNULL)
    return newer


def _kill_engine(lab: Lab, one: Recorder) -> None:
    step("kill -9 of an engine: failure mode, with the reason, whoever else is killed")
    lab.check(f"kill -9 {vtpm.engine_pid(lab, one.guest.domid)}")
    for _ in range(2):
        time.sleep(3)
        expect(one.guest.sh(f"tpm2_pcrread sha256:{PCR}", 240)[0] != 0, "the guest has PCRs after its engine was killed")
        lab.check(f"kill -9 {vtpm.main_pid(lab, one.unit)}")
    expect_in("its engine died, and with it the PCRs of this boot", lab.journal("vtpmd@*"), "the reason in the journal")


def _stop(lab: Lab, one: Recorder) -> None:
    step("systemctl stop ends the engine as well, also one that does not listen; the next vtpmd goes on")
    lab.check(f"systemctl stop {one.unit}", 240)
    expect_equal(lab.sh(f"pgrep -f -- '--domain {one.guest.domid} '").out, "", "engines after systemctl stop")
    lab.check(f"systemctl start {one.unit}")
    expect(one.guest.sh(f"tpm2_pcrread sha256:{PCR}", 240)[0] == 0, "the TPM is not there after stop and start")
    engine = vtpm.engine_pid(lab, one.guest.domid)
    lab.check(f"kill -STOP {engine} {vtpm.main_pid(lab, one.unit)}; systemctl stop {one.unit}", 240)
    expect(lab.wait_until(f"! kill -0 {engine} 2>/dev/null", 30), "an engine that does not listen outlives systemctl stop")
