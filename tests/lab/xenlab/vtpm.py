"""The product as its command line and its units show it."""

import json
from dataclasses import dataclass

from .expect import expect, expect_equal
from .lab import Lab

BACKENDS = "/local/domain/0/backend/vtpm"
STATE = "/var/lib/xen-vtpm"


@dataclass(frozen=True)
class Instance:
    """A TPM that vtpmctl made."""

    name: str
    uuid: str

    @property
    def line(self) -> str:
        """The line of the guest's xl file."""
        return f'vtpm=["backend=0,uuid={self.uuid}"]'


def create(lab: Lab, name: str, tpm: str, options: str = "") -> Instance:
    """Creates an instance, and checks that what vtpmctl prints is the line to paste."""
    printed = lab.check(f"vtpmctl create --name {name} --tpm {tpm} {options}")
    shown = json.loads(lab.check(f"vtpmctl show {name} --json"))
    expect_equal((shown["name"], shown["tpm"]), (name, tpm), "name and version that vtpmctl show tells")
    instance = Instance(name, shown["uuid"])
    expect_equal(printed, instance.line, "what vtpmctl create printed")
    return instance


def delete(lab: Lab, instance: Instance) -> None:
    """Deletes an instance, once the end of its guest has reached the manager."""
    wait_free(lab, instance.name)
    lab.check(f"vtpmctl delete {instance.name} --yes")


def names(lab: Lab) -> list[str]:
    """Returns the names of all instances."""
    return sorted(row["name"] for row in json.loads(lab.check("vtpmctl list --json")))


def unit(domid: int) -> str:
    """Returns the unit that serves a domain's first TPM."""
    return f"vtpmd@{domid}-0.service"


def main_pid(lab: Lab, service: str) -> int:
    """Returns the process that a service stands for."""
    return int(lab.check(f"systemctl show --value -p MainPID {service}"))


def engine_pid(lab: Lab, domid: int) -> int:
    """Returns the one vtpm-engine that serves a domain."""
    group = lab.check(f"systemctl show --value -p ControlGroup {unit(domid)}")
    pids = lab.check(f"for p in $(cat /sys/fs/cgroup{group}/cgroup.procs); do "
                     "[ \"$(cat /proc/$p/comm)\" = vtpm-engine ] && echo $p; done; true").split()
    expect_equal(len(pids), 1, f"number of engines of domain {domid}")
    return int(pids[0])


def wait_connected(lab: Lab, domid: int, timeout: float = 120) -> None:
    """Waits until a domain's front end is connected."""
    node = f"{BACKENDS}/{domid}/0/state"
    connected = lab.wait_store(node, f'[ "$(xenstore-read {node})" = 4 ]', timeout)
    expect(connected, f"the TPM of domain {domid} does not connect")


REMAINS = {
    "process vtpmd": "! pgrep -x vtpmd",
    "process vtpm-engine": "! pgrep -x vtpm-engine",
    "unit vtpmd@": "! systemctl list-units --all --plain --no-legend 'vtpmd@*' | grep .",
    "node": f"! xenstore-ls {BACKENDS} 2>/dev/null | grep frontend-id",
}


def expect_nothing_left(lab: Lab, timeout: float = 40) -> None:
    """Fails when, with no guest running, anything of a guest's TPM is still there after a while."""
    for what, absent in REMAINS.items():
        if not lab.wait_until(f"{absent} >/dev/null", timeout):
            expect(False, f"left behind: {what}: {lab.sh(absent.removeprefix('! ')).out}")


def wait_free(lab: Lab, name: str) -> None:
    """Waits until the end of an instance's guest has reached the manager."""
    free = f"vtpmctl show {name} --json | grep -q '\"in_use\": false'"
    expect(lab.wait_until(free, 30), f"{name} is still in use")


def vault_rows(lab: Lab, query: str) -> list[list[str]]:
    """Asks the vault's database, of which a copy is read, as vault_digest() does."""
    out = lab.check(f"rm -rf /run/lab/vault && cp -r {STATE} /run/lab/vault && "
                    f'sqlite3 /run/lab/vault/vault.db "{query}" && rm -rf /run/lab/vault')
    return [line.split("|") for line in out.splitlines()]


def vault_digest(lab: Lab) -> str:
    """Hashes what the vault says. vtpmmgrd must be stopped. A copy is read: to open a database with a write-ahead
    log changes its files, and sqlite3 here runs as another user than the one that owns them."""
    return lab.check(f"rm -rf /run/lab/vault && cp -r {STATE} /run/lab/vault && "
                     "sqlite3 /run/lab/vault/vault.db .dump | sha256sum && rm -rf /run/lab/vault")
