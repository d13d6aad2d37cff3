"""What the dom0's processors were busy with between two moments."""

from __future__ import annotations

from dataclasses import dataclass

from . import vtpm
from .lab import Lab

# Seconds since boot; then processor seconds: of a guest's unit with all its engines, of vtpmmgrd, of xenstored, and
# of the whole dom0, kernel and all, as Xen counts them. Last the journal's lines.
READ = """cut -d' ' -f1 /proc/uptime
ticks() { awk -v hz=$(getconf CLK_TCK) '{print ($14 + $15) / hz}' /proc/$1/stat; }
awk '/usage_usec/ {print $2 / 1000000}' /sys/fs/cgroup$(systemctl show --value -p ControlGroup UNIT)/cpu.stat
ticks $(systemctl show --value -p MainPID vtpmmgrd.service)
ticks $(pgrep -x -o 'xenstored|oxenstored')
xl list 0 | awk 'NR == 2 {print $6}'
journalctl -b --no-pager -o cat | wc -l
"""


@dataclass(frozen=True)
class Load:
    """Processor shares (1.0 is one processor), and lines in the journal a minute."""

    seconds: float
    guest: float
    manager: float
    xenstored: float
    dom0: float
    lines: float

    def __str__(self) -> str:
        return (f"its vtpmd and engine {self.guest:.0%}, vtpmmgrd {self.manager:.0%}, xenstored {self.xenstored:.0%}, "
                f"all of dom0 {self.dom0:.0%} of a processor; {self.lines:.0f} log lines a minute")


class Meter:
    """Measures from its making on what one guest's TPM costs."""

    def __init__(self, lab: Lab, domid: int) -> None:
        self._lab = lab
        self._command = READ.replace("UNIT", vtpm.unit(domid))
        self._begin = self._read()

    def _read(self) -> list[float]:
        return [float(line) for line in self._lab.check(self._command).splitlines()]

    def load(self) -> Load:
        """Returns what happened since."""
        took, guest, manager, xenstored, dom0, lines = (b - a for a, b in zip(self._begin, self._read(), strict=True))
        return Load(took, guest / took, manager / took, xenstored / took, dom0 / took, lines * 60 / took)
