"""A dom0 whose boots measure something, as a boot loader does, before vtpmmgrd starts."""

from .lab import Lab

SCRIPT = """#!/bin/bash
for _ in $(seq 300); do [ -c /dev/tpm0 ] && break; sleep 0.1; done
digest=$({sum} /etc/measured | cut -c1-{digits})
command={command}$digest
exec 3<>/dev/tpm0
printf "$(sed 's/../\\\\x&/g' <<<"$command")" >&3
head -c {answer} <&3 >/dev/null
"""
UNIT = """[Unit]
Before=vtpmmgrd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/local/sbin/measure
[Install]
WantedBy=multi-user.target
"""


def script20(pcr: int) -> str:
    """Extends a PCR by the SHA-256 of a file: TPM2_PCR_Extend, raw."""
    command = f"80020000004100000182000000{pcr:02x}0000000940000009000000000000000001000b"
    return SCRIPT.format(sum="sha256sum", digits=64, command=command, answer=19)


def script12(pcr: int) -> str:
    """Extends a PCR by the SHA-1 of a file: TPM_Extend, raw."""
    return SCRIPT.format(sum="sha1sum", digits=40, command=f"00c10000002200000014000000{pcr:02x}", answer=30)


def install(lab: Lab, script: str) -> None:
    """From the next boot on."""
    lab.agent.put("/usr/local/sbin/measure", script.encode(), 0o755)
    lab.agent.put("/etc/systemd/system/measure.service", UNIT.encode())
    lab.check("systemctl enable measure.service")


def choose(lab: Lab, what: str) -> None:
    """What the next boot measures."""
    lab.agent.put("/etc/measured", what.encode())
