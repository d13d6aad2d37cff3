"""Guests use their TPMs while anything may happen to them and to the daemons; what they were told is what there is.

VTPM_CHAOS_SEED replays the events of a run, VTPM_CHAOS_GUESTS and VTPM_CHAOS_SECONDS make it larger.
"""

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from xenlab import vtpm
from xenlab.agent import LabError
from xenlab.expect import Failure, expect, expect_equal
from xenlab.guest import GuestConfig
from xenlab.lab import Lab
from xenlab.pcrs import PCR
from xenlab.say import say, step
from xenlab.tpm12 import Tpm12, Tpm12Error
from xenlab.tpm20 import Tpm20, Tpm20Error

T = TypeVar("T")
NEEDS_PRODUCT = True
OWN_HOST = False
CPUS = 2
GUESTS = int(os.environ.get("VTPM_CHAOS_GUESTS", "3"))
SECONDS = float(os.environ.get("VTPM_CHAOS_SECONDS", "120"))
SEED = int(os.environ.get("VTPM_CHAOS_SEED", str(int(time.time()))))
WEIGHT = "xl sched-credit2 -d Domain-0 -w"
FEWEST = 4  # of the events, however long each takes
MEMORY_MIB = 160  # so that ten fit
SIZE = 32
INDEX = {"1.2": 0x00011101, "2.0": 0x1500101}
HASH = {"1.2": hashlib.sha1, "2.0": hashlib.sha256}
# A TPM 1.2 that nobody owns takes 64 writes in all.
WRITES = {"1.2": 50, "2.0": 1 << 30}
# That a write cannot be made durable now (TPM_IOERROR, TPM_RC_NV_UNAVAILABLE): the one error a guest may see.
NOT_NOW = {"1.2": 0x1F, "2.0": 0x923}
# libxl waits 10 s for a back end and then destroys the guest that it made; a machine under emulation may take longer.
# The words are in its output, or in the log of the xl that restarts a guest.
TOO_SLOW = "unable to add vtpm devices"
# Linux gives a short command of TPM 1.2 2 s, and the next one only once it is answered. A machine under emulation may
# take longer: then it is not known whether what was late has been done.
LATE_S = 120.0
GIVEN_UP = 62  # ETIME, by tpmraw
STARTS = 3  # of one guest, before a slow machine is no excuse
BACK = ("for i in $(seq 300); do for d in /dev/tpm[0-9]; do [ -c $d ] || continue; "
        "[ $d = /dev/tpm0 ] || ln -sf $d /dev/tpm0; exit 0; done; sleep 0.2; done; exit 1")


class Late(Exception):
    """The guest's driver has given a command up."""


class Player:
    """One guest that uses its TPM without a pause, and the log of it, folded into what the TPM must hold."""

    def __init__(self, lab: Lab, number: int, seed: int) -> None:
        self.lab = lab
        self.version = ("1.2", "2.0")[number % 2]
        self.random = random.Random(seed)
        self.instance = vtpm.create(lab, f"player{number}", self.version)
        self.config = GuestConfig(self.instance.name, "pv", self.instance.line, memory_mib=MEMORY_MIB)
        self.there = threading.Lock()  # held by who uses the guest, or takes it away
        self.failure = ""
        self.commands = self.refused = self.writes = self.late = self.starts = self.slow = 0
        self.create()
        self.zero = self.patiently(lambda: self.tpm.pcr_read(PCR))
        self.pcrs = [self.zero]
        self.patiently(lambda: self.tpm.nv_define(INDEX[self.version], SIZE))
        self.possible = [b""]
        self.write()

    def create(self) -> None:
        """Starts the guest; its PCRs are new."""
        def start() -> None:
            self.guest = self.lab.start_guest(self.config)

        self.in_time(start)
        self.guest.wait_ready(300)

    def in_time(self, start: Callable[[], None]) -> None:
        """Starts the guest in some way, and once more when that took longer than libxl waits."""
        for left in reversed(range(STARTS)):
            self.starts += 1
            try:
                start()
                return
            except LabError as error:
                if TOO_SLOW not in str(error) or left == 0:
                    raise
            self.slow += 1
            step(f"{self.instance.name}: the start took longer than libxl waits; once more")
            vtpm.wait_free(self.lab, self.instance.name)

    def restarted(self) -> None:
        """Waits for xl's new domain; when libxl did not wait for its TPM, makes another."""
        self.starts += 1
        try:
            self.guest.wait_restarted()
        except LabError:
            if TOO_SLOW not in self.lab.sh(f"tail -n 20 /var/log/xen/xl-{self.instance.name}.log").out:
                raise
            self.slow += 1
            step(f"{self.instance.name}: the restart took longer than libxl waits; xl create")
            self.lab.guests.remove(self.guest)
            vtpm.wait_free(self.lab, self.instance.name)
            self.create()

    def begin_anew(self) -> None:
        """What the log says of PCRs is forgotten, and checked."""
        found = self.patiently(lambda: self.tpm.pcr_read(PCR))
        expect_equal(found, self.zero, f"{self.instance.name}: PCR of a new life")
        self.pcrs = [self.zero]

    @property
    def tpm(self) -> Tpm12 | Tpm20:
        """The TPM, by the program in the guest that sends bytes."""
        kind = Tpm12 if self.version == "1.2" else Tpm20
        return kind(self.transmit)

    def transmit(self, command: bytes) -> bytes:
        """One command to the guest's driver."""
        status, out = self.guest.sh(f"tpmraw {command.hex()}", 300)
        if status == GIVEN_UP and self.version == "1.2":
            raise Late
        if status != 0:
            raise LabError(f"tpmraw {command.hex()} ended with {status}:\n{out}")
        return bytes.fromhex(out)

    def patiently(self, what: Callable[[], T]) -> T:
        """What can be done again, until it is not late."""
        end = time.monotonic() + LATE_S
        while True:
            try:
                return what()
            except Late:
                self.late += 1
                expect(time.monotonic() < end, f"{self.instance.name}: no command in time for {LATE_S:.0f} s")
                time.sleep(0.5)

    def extend(self) -> None:
        """Extends the PCR, once."""
        digest = self.random.randbytes(len(self.zero))
        extended = [HASH[self.version](pcr + digest).digest() for pcr in self.pcrs]
        try:
            self.tpm.extend(PCR, digest)
            self.pcrs = extended
        except Late:
            self.late += 1
            self.pcrs += extended

    def write(self) -> None:
        """Writes NV. What is refused may be there later, with a write that is not."""
        if self.writes >= WRITES[self.version]:
            return
        self.writes += 1
        value = self.random.randbytes(SIZE)
        try:
            self.tpm.nv_write(INDEX[self.version], value)
            self.possible = [value]
        except (Tpm12Error, Tpm20Error) as error:
            expect_equal(error.code, NOT_NOW[self.version], f"{self.instance.name}: code of a write that was refused")
            self.possible.append(value)
            self.refused += 1
        except Late:
            self.possible.append(value)
            self.late += 1

    def check(self) -> None:
        """The TPM holds what the log says."""
        pcr = self.patiently(lambda: self.tpm.pcr_read(PCR))
        expect(pcr in self.pcrs, f"{self.instance.name}: PCR is {pcr.hex()} after {self.commands} commands")
        self.pcrs = [pcr]
        try:
            found = self.patiently(lambda: self.tpm.nv_read(INDEX[self.version], SIZE))
        except (Tpm12Error, Tpm20Error) as error:
            expect_equal(error.code, NOT_NOW[self.version], f"{self.instance.name}: code of a read that was refused")
            self.refused += 1
            return
        expect(found in self.possible, f"{self.instance.name}: NV has {found.hex()}, which was not written last")
        self.possible = [found]

    def play(self, over: threading.Event) -> None:
        """Until then."""
        while not over.is_set() and not self.failure:
            with self.there:
                try:
                    self.random.choice((self.extend, self.extend, self.write, self.check))()
                    self.commands += 1
                except (Failure, LabError) as error:
                    self.failure = str(error)
                    step(f"{self.instance.name}: {self.failure}")
            time.sleep(0.01)

    def power_cycle(self, how: str) -> None:
        """In one of the ways in which a guest's power ends and comes back."""
        with self.there:
            if how == "destroy":
                self.guest.destroy()
                vtpm.wait_free(self.lab, self.instance.name)
                self.create()
            else:
                self.lab.check(f"xl reboot {self.guest.domid}") if how == "xl reboot" else self.guest.sh("reboot", 20)
                self.restarted()
            self.begin_anew()

    def suspend(self) -> None:
        """xl save and xl restore."""
        file = f"/var/tmp/{self.instance.name}.save"
        with self.there:
            self.guest.save(file)

            def restore() -> None:
                self.guest = self.lab.restore_guest(self.instance.name, file)

            self.in_time(restore)
            self.guest.check(BACK, 150)
            self.lab.check(f"rm {file}")


def _events(lab: Lab) -> dict[str, Callable[[Player], None]]:
    """All that may happen; the last ones while the guest uses its TPM."""
    def pause(player: Player) -> None:
        lab.check(f"xl pause {player.guest.domid}; sleep 2; xl unpause {player.guest.domid}")

    def hang_chip(_player: Player) -> None:
        lab.machine.hang_chip(True)
        time.sleep(2)
        lab.machine.hang_chip(False)

    return {
        "reboot": lambda player: player.power_cycle("reboot"),
        "xl reboot": lambda player: player.power_cycle("xl reboot"),
        "xl destroy": lambda player: player.power_cycle("destroy"),
        "xl save and restore": Player.suspend,
        "xl pause": pause,
        "restart of vtpmd": lambda player: _restart_doorman(lab, player),
        "kill -9 of vtpmd": lambda player: _kill_doorman(lab, player),
        "restart of vtpmmgrd": lambda _player: _none(lab.check("systemctl restart vtpmmgrd", 60)),
        "kill -9 of vtpmmgrd": lambda _player: _none(lab.check(
            "kill -9 $(systemctl show --value -p MainPID vtpmmgrd); sleep 3; systemctl start vtpmmgrd", 60)),
        "a chip that hangs": hang_chip,
    }


def _none(_anything: object) -> None:
    pass


def _restart_doorman(lab: Lab, player: Player) -> None:
    lab.check(f"systemctl restart {vtpm.unit(player.guest.domid)}", 60)


def _kill_doorman(lab: Lab, player: Player) -> None:
    """systemd starts the next one, which goes on with the engine."""
    unit = vtpm.unit(player.guest.domid)
    lab.check(f"pid=$(systemctl show --value -p MainPID {unit}); [ $pid = 0 ] || kill -9 $pid", 60)


def run(lab: Lab) -> None:
    """The main thread makes things happen; a thread a guest records."""
    say(f"  VTPM_CHAOS_SEED={SEED} VTPM_CHAOS_GUESTS={GUESTS} VTPM_CHAOS_SECONDS={SECONDS:.0f}")
    chance = random.Random(SEED)
    # The guests never rest: docs/operations.md, on hosts with many guests.
    lab.check(f"{WEIGHT} 2048")
    players = [Player(lab, number, chance.getrandbits(32)) for number in range(GUESTS)]
    over = threading.Event()
    threads = [threading.Thread(target=player.play, args=(over,), daemon=True) for player in players]
    for thread in threads:
        thread.start()
    events = _events(lab)
    happened = 0
    end = time.monotonic() + SECONDS
    while (time.monotonic() < end or happened < FEWEST) and not any(player.failure for player in players):
        what, player = chance.choice(list(events)), chance.choice(players)
        step(f"{player.instance.name}: {what}")
        events[what](player)
        happened += 1
        time.sleep(chance.uniform(0, 3))
    over.set()
    for thread in threads:
        thread.join(400)
    expect_equal([player.failure for player in players if player.failure], [], "differences")
    for player in players:
        player.check()
    lab.check(f"{WEIGHT} 256")
    commands = sum(player.commands for player in players)
    late = sum(player.late for player in players)
    starts = sum(player.starts for player in players)
    slow = sum(player.slow for player in players)
    say(f"  {commands} commands, {late} of them late, {sum(player.refused for player in players)} refused "
        f"writes, {happened} events, {slow} of {starts} starts too slow for libxl, no difference")
    expect(late <= 2 + commands // 10, f"{late} of {commands} commands were late")
    expect(slow <= 1 + starts // 4, f"{slow} of {starts} starts took longer than libxl waits")
    expect(all(player.commands > 3 for player in players), "nothing was tried")
