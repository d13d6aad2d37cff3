"""The power fails, or dom0 crashes, while guests write: every acknowledged write is there, and nobody cries rollback."""

import json
import random
import secrets
import threading
import time

from xenlab import vtpm
from xenlab.agent import LabError
from xenlab.expect import expect, expect_equal
from xenlab.guesttpm import NV_INDEX_20
from xenlab.lab import Lab
from xenlab.say import say, step, timed
from xenlab.tpm20 import Tpm20

NEEDS_PRODUCT = True
OWN_HOST = True
# The power, or what the dom0's kernel is made to do: a reset, a panic.
ENDS = ("power", "power", "power", "b", "c")
# Something else that writes, and never waits for the disk: what a power cut may lose, and in which order.
NOISE = """head -c 1M /dev/zero > /root/noise; sync
(while dd if=/dev/urandom of=/root/noise bs=4k count=1 seek=$((RANDOM % 256)) conv=notrunc oflag=direct; do :; done) \
>/dev/null 2>&1 &"""
SIZE = 32


class Load:
    """A guest that does nothing but write, and what its TPM has told it. A TPM 1.2 that nobody owns takes 64 writes only."""

    def __init__(self, lab: Lab, name: str, options: str) -> None:
        self.lab = lab
        self.instance = vtpm.create(lab, name, "2.0", options)
        self.salt = secrets.token_bytes(SIZE - 4)
        self.acknowledged = self.sent = 0
        self.start()
        self.tpm.nv_define(NV_INDEX_20, SIZE)
        self.tpm.nv_write(NV_INDEX_20, self._value(0))

    def _value(self, number: int) -> bytes:
        return number.to_bytes(4, "big") + self.salt

    def start(self) -> None:
        """Starts the guest."""
        guest = self.lab.create_guest(self.instance.name, "pv", self.instance.line)
        self.tpm = Tpm20(lambda command: bytes.fromhex(guest.check(f"tpmraw {command.hex()}", 240)))

    def write_on(self) -> None:
        """Writes until the machine goes away."""
        try:
            while True:
                self.sent = self.acknowledged + 1
                self.tpm.nv_write(NV_INDEX_20, self._value(self.sent))
                self.acknowledged = self.sent
        except (LabError, OSError):
            pass

    def check(self) -> None:
        """What was acknowledged is there, or what was on its way when the power failed."""
        found = self.tpm.nv_read(NV_INDEX_20, SIZE)
        possible = [self._value(self.acknowledged), self._value(self.sent)]
        expect(found in possible, f"{self.instance.name}: write {self.acknowledged} was acknowledged, and there is "
                                  f"{int.from_bytes(found[:4], 'big')} ({found.hex()})")
        self.acknowledged = self.sent = int.from_bytes(found[:4], "big")


def run(lab: Lab) -> None:
    """One guest with a TPM whose every write goes to the chip, too (--sync), and one without."""
    with timed("booting"):
        lab.boot()
    loads = [Load(lab, "plain", ""), Load(lab, "synced", "--sync")]
    lab.shutdown()
    lost = 0
    for end in ENDS:
        with timed("booting"):
            lab.boot(lossy=True)
        _check(lab, loads)
        lost += _cut(lab, loads, end)
    expect(lost > 0, "no power cut lost a write: nothing was tried")
    with timed("booting"):
        lab.boot()
    _check(lab, loads)


def _cut(lab: Lab, loads: list[Load], how: str) -> int:
    step(f"both guests write; {'the power is cut' if how == 'power' else f'dom0 crashes: sysrq {how}'}")
    lab.check(NOISE)
    before = [load.acknowledged for load in loads]
    threads = [threading.Thread(target=load.write_on, daemon=True) for load in loads]
    for thread in threads:
        thread.start()
    enough = random.randint(5, 15)
    end = time.monotonic() + 300
    while min(load.acknowledged - then for load, then in zip(loads, before)) < enough:
        expect(time.monotonic() < end and all(thread.is_alive() for thread in threads), "a guest stopped to write")
        time.sleep(random.uniform(0.01, 0.2))
    lost = 0
    if how == "power":
        lost = lab.power_cut()
    else:
        lab.crash(how)
    for thread in threads:
        thread.join(60)
        expect(not thread.is_alive(), "a guest goes on although its host is off")
    written = [load.acknowledged - then for load, then in zip(loads, before)]
    say(f"  acknowledged: {written[0]} writes, and {written[1]} with --sync; {lost} writes of the disk's were lost")
    return lost


def _check(lab: Lab, loads: list[Load]) -> None:
    status = json.loads(lab.check("vtpmctl status --json"))
    expect_equal((status["state"], status.get("recoveries", 0)), ("open", 0), "the vault's state and its recoveries")
    expect("rolled-back" not in json.dumps(status), f"a power cut was taken for a rollback: {status}")
    for load in loads:
        load.start()
        load.check()
