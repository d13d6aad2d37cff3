"""A guest of the lab, reached over its console."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .agent import LabError

if TYPE_CHECKING:
    from .lab import Lab


@dataclass
class GuestConfig:
    """An xl configuration."""

    name: str
    kind: str = "pv"
    vtpm: str = ""
    memory_mib: int = 192
    ramdisk: str = "/srv/lab/initrd"
    on_crash: str = "destroy"  # and when a watchdog bites
    kernel: str = "/srv/lab/vmlinux"
    arguments: str = ""  # of the kernel, besides its console
    disks: tuple[str, ...] = ()  # of the dom0: the guest's xvda and on

    def text(self) -> str:
        """Returns it as xl reads it."""
        disks = ", ".join(f'"phy:{disk},xvd{"abcdef"[number]},w"' for number, disk in enumerate(self.disks))
        return (f'name="{self.name}"\ntype="{self.kind}"\nmemory={self.memory_mib}\nvcpus=1\n'
                f'kernel="{self.kernel}"\nramdisk="{self.ramdisk}"\nextra="console=hvc0 {self.arguments}"\ndisk=[{disks}]\n'
                f'on_reboot="restart"\non_crash="{self.on_crash}"\non_watchdog="{self.on_crash}"\n{self.vtpm}\n')


class Guest:
    """A running guest. After it restarted itself, call wait_restarted()."""

    def __init__(self, lab: Lab, name: str) -> None:
        """Finds the guest and begins to listen to its console."""
        self.lab = lab
        self.name = name
        self.domid = int(lab.check(f"xl domid {name}"))
        self._attach()

    def _attach(self) -> None:
        self.lab.agent.ask("guest_attach", 30, domid=self.domid)

    def wait_ready(self, timeout: float = 180) -> None:
        """Waits until the guest takes commands."""
        if not self.lab.agent.ask("guest_wait_ready", timeout, domid=self.domid, timeout=timeout)["done"]:
            raise LabError(f"guest {self.name} did not come up; its console:\n{self.console_log()[-3000:]}")

    def sh(self, cmd: str, timeout: float = 120) -> tuple[int, str]:
        """Runs a shell command in the guest; status 124: too late, 125: the guest is gone."""
        answer = self.lab.agent.ask("guest_run", timeout, domid=self.domid, cmd=cmd, timeout=timeout)
        return answer["status"], answer["data"].decode("utf-8", "replace")

    def check(self, cmd: str, timeout: float = 120) -> str:
        """Runs a shell command in the guest that must succeed; returns its output without the last newline."""
        status, out = self.sh(cmd, timeout)
        if status != 0:
            raise LabError(f"guest {self.name}: '{cmd}' ended with {status}:\n{out}")
        return out.rstrip("\n")

    def console_log(self) -> str:
        """Returns all that the guest's console has shown: the kernel's log, to the last word, is in it."""
        return self.lab.agent.ask("guest_log", 30, domid=self.domid)["data"].decode("utf-8", "replace")

    def wait_gone(self, timeout: float = 120) -> None:
        """Waits until the domain is no more."""
        if not self.lab.agent.ask("guest_wait_gone", timeout, domid=self.domid, timeout=timeout)["done"]:
            raise LabError(f"guest {self.name} is still there; its console:\n{self.console_log()[-3000:]}")

    def destroy(self) -> None:
        """Pulls its plug."""
        self.lab.check(f"xl destroy {self.domid}")
        self.wait_gone()
        self._forget()

    def shutdown(self, timeout: float = 120) -> None:
        """Has the guest shut itself down in an orderly way."""
        self.lab.check(f"xl shutdown {self.domid}")
        self.wait_gone(timeout)
        self._forget()

    def save(self, file: str) -> None:
        """Saves it into a file: the domain is gone then."""
        self.lab.check(f"xl save {self.domid} {file}", 300)
        self.wait_gone()
        self._forget()

    def checkpoint(self, file: str) -> None:
        """Saves it into a file, and lets it run on."""
        self.lab.check(f"xl save -c {self.domid} {file}", 300)

    def wait_restarted(self, timeout: float = 240) -> None:
        """Waits for the domain that xl makes when this one reboots (on_reboot=restart)."""
        self.wait_gone(timeout)
        new = f'[ -n "$(xenstore-read /local/domain/$(xl domid {self.name} 2>/dev/null)/console/tty 2>/dev/null)" ]'
        if not self.lab.wait_store("/local/domain", new, timeout):
            raise LabError(f"guest {self.name} did not come back")
        self.domid = int(self.lab.check(f"xl domid {self.name}"))
        self._attach()
        self.wait_ready(timeout)

    def _forget(self) -> None:
        if self in self.lab.guests:
            self.lab.guests.remove(self)
