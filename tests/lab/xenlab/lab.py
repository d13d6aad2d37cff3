"""A host: its disk, its chip, and the machine made of them while it is on."""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from . import powercut
from .agent import Agent, LabError
from .chip import Chip
from .dom0image import Dom0Image
from .guest import Guest, GuestConfig
from .machine import Machine
from .say import say

BOOT_S = 400.0
# A dom0 that neither is up nor has printed a line for so long is one that the emulation has hung: some of a hundred
# boots stop for good, both processors busy, where the kernel switches its clock source.
SILENT_S = 90.0
BOOT_ATTEMPTS = 3
OFF_S = 240.0


class Result(NamedTuple):
    """What a command did."""

    status: int
    out: str


class Lab:
    """One host of the lab. Boot it, use it, cut its power, boot it again: disk and chip stay."""

    def __init__(self, image: Dom0Image, disk: Path, chip: Chip, directory: Path) -> None:
        """Takes over `disk` and the chip's state: both are written to. `directory` is for its files."""
        self.image = image
        self.disk = disk
        self.chip = chip
        self.directory = directory
        self.more_disks: list[Path] = []  # /dev/vdb and on; attached at the next boot
        self.guests: list[Guest] = []
        self.neighbours: list[Lab] = []
        self._machine: Machine | None = None
        self._agent: Agent | None = None
        self._write_log: Path | None = None
        self._runtime: Path | None = None

    def boot(self, chip: Chip | None | bool = True, lossy: bool = False, cpus: int = 2) -> None:
        """Switches the machine on and waits until it is ready for work.

        chip: True for the host's own, another one, or None for a mainboard without.
        cpus: 1 where PVH guests are to run: with two, on a busy machine, QEMU 7.2's emulation of nested SVM gave
        three of 16 a triple fault while they booted; with one, none of 16.
        lossy: power_cut() shall lose whatever the machine had not flushed to its disk.
        """
        used = self.chip if chip is True else chip or None
        for attempt in range(BOOT_ATTEMPTS):
            self._switch_on(used, lossy, cpus)
            if self._comes_up():
                break
            if attempt + 1 == BOOT_ATTEMPTS:
                raise LabError("the dom0 did not come up")
            say("  the dom0 hangs while it boots; off and on again")
            self.machine.kill()
            self._forget_machine()
        self.sh("systemctl is-system-running --wait", BOOT_S)
        self.check("xl info >/dev/null && mkdir -p /run/lab")

    def _switch_on(self, chip: Chip | None, lossy: bool, cpus: int) -> None:
        self._runtime = Path(tempfile.mkdtemp(prefix="xenlab-"))
        if lossy:
            self._write_log = self.directory / "writes.log"
            powercut.begin(self.disk, self._write_log)
        self._machine = Machine(self.image, [self.disk, *self.more_disks], chip, self._runtime, self._write_log, cpus)
        self._agent = Agent(self._machine.agent_socket)

    def _comes_up(self) -> bool:
        """Waits for the agent; gives up early on a console that has fallen silent."""
        end = time.monotonic() + BOOT_S
        printed, heard = -1, time.monotonic()
        while not self.agent.wait_up(5):
            now = time.monotonic()
            if self.machine.printed() != printed:
                printed, heard = self.machine.printed(), now
            if now > end or now > heard + SILENT_S or not self.machine.running():
                return False
        return True

    @property
    def agent(self) -> Agent:
        """The channel into the running dom0."""
        if self._agent is None:
            raise LabError("the machine is off")
        return self._agent

    @property
    def machine(self) -> Machine:
        """The running machine."""
        if self._machine is None:
            raise LabError("the machine is off")
        return self._machine

    @property
    def is_on(self) -> bool:
        """Tells whether the machine is switched on."""
        return self._machine is not None

    def sh(self, cmd: str, timeout: float = 120) -> Result:
        """Runs a shell command in the dom0."""
        answer = self.agent.ask("run", timeout, cmd=cmd, timeout=timeout)
        return Result(answer["status"], answer["data"].decode("utf-8", "replace"))

    def check(self, cmd: str, timeout: float = 120) -> str:
        """Runs a shell command in the dom0 that must succeed; returns its output without the last newline."""
        status, out = self.sh(cmd, timeout)
        if status != 0:
            raise LabError(f"dom0: '{cmd}' ended with {status}:\n{out}")
        return out.rstrip("\n")

    def wait_until(self, condition: str, timeout: float = 60) -> bool:
        """Waits until a shell condition holds in the dom0. For what xenstore knows, wait_store() is better."""
        loop = f"end=$((SECONDS + {int(timeout)})); until {condition}; do [ $SECONDS -lt $end ] || exit 1; sleep 0.2; done"
        return self.sh(loop, timeout + 30).status == 0

    def wait_store(self, path: str, condition: str, timeout: float = 60) -> bool:
        """Waits until a shell condition holds, looking at it whenever something at or below `path` changes."""
        watch = (f"exec 3< <(exec timeout {int(timeout)} xenstore-watch {path}); trap 'kill $!' EXIT; "
                 f"while read -r -u 3 _; do if {condition}; then exit 0; fi; done; exit 1")
        return self.sh(watch, timeout + 30).status == 0

    def journal(self, unit: str = "", since: str = "") -> str:
        """Returns this boot's journal, of one unit or of all; since: a cursor from journal_cursor()."""
        options = (f" -u '{unit}'" if unit else "") + (f" --after-cursor='{since}'" if since else "")
        return self.sh(f"journalctl -b --no-pager -o short-monotonic{options}").out

    def journal_cursor(self) -> str:
        """Returns the journal's present end, for journal(since=...)."""
        return self.check("journalctl -n 0 --show-cursor | sed -n 's/^-- cursor: //p'")

    def create_guest(self, name: str, kind: str = "pv", vtpm: str = "", ready: bool = True,
                     timeout: float = 180, ramdisk: str = "/srv/lab/initrd",
                     on_crash: str = "destroy") -> Guest:
        """Starts a guest and waits for its agent. vtpm: the line that `vtpmctl create` printed."""
        config = GuestConfig(name, kind, vtpm, ramdisk=ramdisk, on_crash=on_crash)
        guest = self.start_guest(config)
        try:
            if ready:
                guest.wait_ready(timeout)
        except LabError:
            if not self._emulator_failed(guest.domid):
                raise
            say(f"  QEMU's emulation of nested SVM broke guest {name}, as it does now and then: starting it again")
            guest.wait_gone()
            self.guests.remove(guest)
            guest = self.start_guest(config)
            guest.wait_ready(timeout)
        return guest

    def restore_guest(self, name: str, file: str) -> Guest:
        """Restores a guest that was saved into this file, and deletes nothing."""
        self.check(f"xl restore {file}", 300)
        guest = Guest(self, name)
        self.guests.append(guest)
        return guest

    def start_guest(self, config: GuestConfig) -> Guest:
        """Runs `xl create` on a configuration, and expects it to work."""
        status, out = self.try_create(config)
        if status != 0:
            raise LabError(f"xl create {config.name} failed:\n{out}")
        guest = Guest(self, config.name)
        self.guests.append(guest)
        return guest

    def _emulator_failed(self, domid: int) -> bool:
        """Tells whether Xen saw a guest triple-fault: no fault of a TPM's does that to a kernel that boots."""
        return f"d{domid}v0 Triple fault" in self.machine.console_tail(1000)

    def try_create(self, config: GuestConfig, timeout: float = 180) -> Result:
        """Runs `xl create` on a configuration, whatever comes of it."""
        path = f"/run/lab/{config.name}.cfg"
        self.agent.put(path, config.text().encode())
        return self.sh(f"xl create {path}", timeout)

    def destroy_guests(self) -> None:
        """Destroys all domains but this one."""
        self.guests.clear()
        self.check("xl list | awk 'NR > 1 && $2 != 0 {print $2}' | xargs -r -n1 xl destroy")

    def shutdown(self, destroy: bool = True) -> None:
        """Switches the host off in an orderly way. destroy: False leaves the guests to the host."""
        if destroy:
            self.destroy_guests()
        self.sh("systemctl --no-block poweroff")
        if not self.machine.wait_off(OFF_S):
            raise LabError("the host did not switch itself off")
        self._forget_machine()

    def reboot(self) -> None:
        """Restarts the host in an orderly way."""
        self.shutdown()
        self.boot()

    def power_cut(self) -> int:
        """Takes the power away. After boot(lossy=True), writes that were not flushed are lost; returns how many."""
        self.machine.kill()
        lost = 0
        if self._write_log is not None:
            lost = powercut.lose_unflushed(self.disk, self._write_log)
        self._forget_machine()
        return lost

    def crash(self, trigger: str) -> None:
        """Has the dom0's kernel panic ("c") or reset the machine ("b", see sysrq in the kernel's documentation), with
        no word to anybody, and least of all to its disk."""
        self.check(f"(sleep 0.3; echo {trigger} >/proc/sysrq-trigger) >/dev/null 2>&1 &")
        if not self.machine.wait_off(OFF_S):
            raise LabError(f"the dom0 did not crash by sysrq {trigger}")
        self._forget_machine()

    def neighbour(self, name: str) -> "Lab":
        """Returns another host, off: a copy of this one's disk on a mainboard whose chip comes from the factory."""
        directory = self.directory / name
        directory.mkdir()
        copy_disk(self.disk, directory / "disk.img")
        other = Lab(self.image, directory / "disk.img", Chip(directory / "chip"), directory)
        self.neighbours.append(other)
        return other

    def save_logs(self, directory: Path) -> None:
        """Copies the console's and the emulators' logs, for a person to read."""
        if self._runtime is not None:
            directory.mkdir(parents=True, exist_ok=True)
            for log in self._runtime.glob("*.log"):
                shutil.copy(log, directory / log.name)

    def close(self) -> None:
        """Switches off without ceremony, if on, this host and its neighbours."""
        for other in self.neighbours:
            other.close()
        if self._machine is not None:
            self._machine.kill()
            self._forget_machine()

    def _forget_machine(self) -> None:
        self.guests.clear()
        if self._agent is not None:
            self._agent.close()
        if self._runtime is not None:
            shutil.rmtree(self._runtime)
        self._machine = self._agent = self._runtime = self._write_log = None


def copy_disk(source: Path, target: Path) -> None:
    """Copies a disk image fast: shared blocks where the file system can, holes as holes."""
    subprocess.run(["cp", "--reflink=auto", "--sparse=always", source, target], check=True)
