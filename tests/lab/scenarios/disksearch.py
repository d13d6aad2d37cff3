"""The dom0's whole disk holds no guest's secret and no private key."""

import secrets

from xenlab import diskscan, enginememory, vtpm
from xenlab.diskscan import Secret
from xenlab.expect import expect, expect_equal
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True


def run(lab: Lab) -> None:
    """Uses a TPM of each version, and searches the disk of the host that is then switched off."""
    with timed("booting"):
        lab.boot()
    planted = _plant(lab)
    hidden = [secret for version in ("1.2", "2.0") for secret in _use(lab, version)] + known_secrets(lab)
    lab.check("journalctl --sync; sync")
    with timed("shutting down"):
        lab.shutdown()
    with timed(f"searching the disk for {len(planted)} planted values and {len(hidden)} secrets"):
        hits = diskscan.search(lab.disk, planted + hidden)
    step("the search finds what was planted, in a file, as hex, backwards, and in a file deleted since")
    found = {hit.name for hit in hits}
    expect_equal({secret.name for secret in planted} - found, set(), "planted values that the search does not find")
    leaked = [hit for hit in hits if hit.name in {secret.name for secret in hidden}]
    expect(not leaked, f"on the disk: {leaked}")


def known_secrets(lab: Lab) -> list[Secret]:
    """Returns further secrets of the running host: a hook for keys that a later product lets one see."""
    del lab
    return []


def _plant(lab: Lab) -> list[Secret]:
    """Puts markers on the disk, so that a search that finds nothing means something."""
    marks = [Secret(name, secrets.token_bytes(32)) for name in ("in a file", "as hex", "backwards", "deleted")]
    plain, as_hex, backwards, deleted = (mark.value for mark in marks)
    lab.agent.put("/root/plain", plain)
    lab.agent.put("/root/hex", as_hex.hex().encode())
    lab.agent.put("/root/backwards", backwards[::-1])
    # Many times: the file system soon gives some of the blocks to others.
    lab.agent.put("/run/lab/deleted", deleted)
    lab.check("for i in $(seq 100); do cp /run/lab/deleted /root/deleted.$i; done; sync; rm /root/deleted.*; sync")
    return marks


def _use(lab: Lab, version: str) -> list[Secret]:
    """Gives a guest a TPM, writes a secret into it, makes its endorsement key; returns what must stay hidden."""
    step(f"TPM {version}: an NV secret, and the primes of the endorsement key from the engine's memory")
    name = f"search{version.replace('.', '')}"
    instance = vtpm.create(lab, name, version)
    guest = lab.create_guest(name, "pv", instance.line)
    tpm = tpm_of(guest, version)
    value = secrets.token_bytes(32)
    tpm.write_secret(value)
    expect_equal(tpm.read_secret(32), value, "the NV secret")
    primes = enginememory.primes(lab, guest.domid, tpm.ek_modulus())
    expect(primes, "the endorsement key's primes are not in the engine's memory")
    guest.shutdown()
    return [Secret(f"NV secret of {name}", value)] + [Secret(f"prime of {name}", prime) for prime in primes]
