"""A TPM moves to another host, with its keys; the host it came from has lost it, with an older disk, too."""

import hashlib
import secrets
from typing import NamedTuple

from xenlab import vtpm
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import Guest, GuestConfig
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab, copy_disk
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
PCR = 11
EVENT = hashlib.sha256(b"what the guest measures").hexdigest()
MAX_FILE = 1 << 21
# Places in a package of an instance with a name of five letters (PackageHeader::bytes() in src/vault/transfer.cpp).
IN_TIMES, IN_POINT, IN_KEY = 95, 200, 300
AWAY = "was exported"


class Belongings(NamedTuple):
    """What only this TPM has, or opens."""

    nv: bytes
    ek: int
    sealed: tuple[bytes, bytes]
    secret: bytes


def run(lab: Lab) -> None:
    """Two hosts, one of which is on at a time, as there is memory for; files go through the one that carries them."""
    target = lab.neighbour("target")
    ticket = _make_target(target)
    with timed("booting the host where the guest lives"):
        lab.boot()
    instance = vtpm.create(lab, "mover", "2.0")
    guest = lab.create_guest("mover", "pv", instance.line)
    step("the guest writes NV memory, makes its endorsement key, and seals to what it has measured")
    has = _use(guest)
    lab.shutdown()
    older = lab.directory / "older.img"
    copy_disk(lab.disk, older)

    package = _send(lab, instance, ticket)
    receipt = _arrive(target, instance, package, has)

    newer = lab.directory / "newer.img"
    lab.disk.rename(newer)
    older.rename(lab.disk)
    with timed("booting the host it came from, with the disk as it was before"):
        lab.boot()
    _expect_refused(lab, instance, "the chip remembers another state")
    lab.shutdown()
    newer.rename(lab.disk)
    with timed("booting it with its newest disk"):
        lab.boot()
    _expect_refused(lab, instance, AWAY)
    step("the receipt of the other host destroys what is left")
    lab.agent.put("/run/lab/receipt", receipt)
    lab.check("vtpmctl export mover --confirm /run/lab/receipt")
    expect_equal(vtpm.names(lab), [], "instances at the host it came from")


def _make_target(target: Lab) -> bytes:
    with timed("booting the host where the guest will live"):
        target.boot()
    target.check("systemctl stop vtpmmgrd.socket vtpmmgrd.service")
    target.check(f"find {vtpm.STATE} -mindepth 1 -delete && systemctl start vtpmmgrd.socket && vtpmctl setup")
    target.check("vtpmctl ticket --out /run/lab/ticket")
    ticket = target.agent.get("/run/lab/ticket", 0, MAX_FILE)
    target.shutdown()
    return ticket


def _send(lab: Lab, instance: vtpm.Instance, ticket: bytes) -> bytes:
    with timed("booting the host where the guest lives"):
        lab.boot()
    step("the guest's TPM is exported; a start is refused from then on")
    lab.agent.put("/run/lab/ticket", ticket)
    lab.check("vtpmctl export mover --to /run/lab/ticket --out /run/lab/package --yes")
    package = lab.agent.get("/run/lab/package", 0, MAX_FILE)
    _expect_refused(lab, instance, AWAY)
    step("the package does not open where it comes from")
    _expect_import_refused(lab, package, "is for manager")
    lab.shutdown()
    return package


def _arrive(target: Lab, instance: vtpm.Instance, package: bytes, has: Belongings) -> bytes:
    with timed("booting the other host"):
        target.boot()
    step("altered packages are refused, and leave nothing behind")
    # The state, the key that it is under, what the package is about; and whom it is for.
    for at, why in ((len(package) - 1, "changed"), (IN_KEY, "changed"), (IN_TIMES, "changed"), (IN_POINT, "another one")):
        altered = package[:at] + bytes([package[at] ^ 1]) + package[at + 1:]
        _expect_import_refused(target, altered, why)
    _expect_import_refused(target, package[:-1], "damaged")
    expect_equal(vtpm.names(target), [], "instances after packages that were refused")
    step("the package is imported, once")
    target.agent.put("/run/lab/package", package)
    target.check("vtpmctl import /run/lab/package --receipt-out /run/lab/receipt")
    receipt = target.agent.get("/run/lab/receipt", 0, MAX_FILE)
    _expect_import_refused(target, package, "--again")
    step("the guest has all that it had")
    guest = target.create_guest("mover", "pv", instance.line)
    _expect_belongings(guest, has)
    guest.shutdown()
    vtpm.wait_free(target, "mover")
    step("not even once the instance is deleted does the package make another")
    target.check("vtpmctl delete mover --yes")
    _expect_import_refused(target, package, "the ticket of this package is not open")
    expect_equal(vtpm.names(target), [], "instances after the same package came again")
    target.shutdown()
    return receipt


def _expect_refused(lab: Lab, instance: vtpm.Instance, why: str) -> None:
    cursor = lab.journal_cursor()
    status, _ = lab.try_create(GuestConfig("mover", "pv", instance.line))
    expect(status != 0, "a guest got the TPM that lives at another host")
    expect_in(why, lab.journal("vtpmd@*", since=cursor), "the journal of vtpmd")
    vtpm.expect_nothing_left(lab)


def _expect_import_refused(lab: Lab, package: bytes, why: str) -> None:
    lab.agent.put("/run/lab/bad", package)
    status, said = lab.sh("vtpmctl import /run/lab/bad --receipt-out /run/lab/none")
    expect(status != 0, f"a package was imported that had to be refused ({why})")
    expect_in(why, said, "what vtpmctl import said")
    lab.check("[ ! -e /run/lab/none ]")


PRIMARY = "tpm2_flushcontext -t; tpm2_createprimary -Q -C o -G ecc -c /tmp/primary"


def _use(guest: Guest) -> Belongings:
    tpm = tpm_of(guest, "2.0")
    nv, secret = secrets.token_bytes(32), secrets.token_bytes(32)
    tpm.write_secret(nv)
    modulus = tpm.ek_modulus()
    guest.check(f"tpm2_pcrextend {PCR}:sha256={EVENT}")
    guest.check(f"{PRIMARY} && tpm2_startauthsession -S /tmp/s && tpm2_policypcr -Q -S /tmp/s -l sha256:{PCR} "
                "-L /tmp/policy && tpm2_flushcontext /tmp/s && "
                f"echo {secret.hex()} | xxd -r -p | tpm2_create -Q -C /tmp/primary -L /tmp/policy -i - "
                "-u /tmp/public -r /tmp/private", 300)
    sealed = [bytes.fromhex(guest.check(f"xxd -p /tmp/{part} | tr -d '\\n'")) for part in ("public", "private")]
    expect_equal(_unseal(guest), secret.hex(), "what the TPM has sealed")
    return Belongings(nv, modulus, (sealed[0], sealed[1]), secret)


def _unseal(guest: Guest) -> str:
    status, out = guest.sh(f"{PRIMARY} && tpm2_load -Q -C /tmp/primary -u /tmp/public -r /tmp/private -c /tmp/object && "
                           f"tpm2_flushcontext -t && tpm2_unseal -c /tmp/object -p pcr:sha256:{PCR} -o /tmp/secret && "
                           "xxd -p /tmp/secret | tr -d '\\n'", 300)
    return out.strip().splitlines()[-1] if status == 0 else f"refused: {out}"


def _expect_belongings(guest: Guest, has: Belongings) -> None:
    tpm = tpm_of(guest, "2.0")
    expect_equal(tpm.read_secret(32), has.nv, "NV memory at the other host")
    expect_equal(tpm.ek_modulus(), has.ek, "the endorsement key at the other host")
    for part, content in zip(("public", "private"), has.sealed):
        guest.check(f"echo {content.hex()} | xxd -r -p > /tmp/{part}")
    expect_in("refused", _unseal(guest), "a guest that has not measured yet unseals")
    guest.check(f"tpm2_pcrextend {PCR}:sha256={EVENT}")
    expect_equal(_unseal(guest), has.secret.hex(), "what the TPM has sealed, at the other host")
