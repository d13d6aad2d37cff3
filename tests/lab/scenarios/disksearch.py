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
    planted = diskscan.plant(lab)
    hidden = [secret for version in ("1.2", "2.0") for secret in _use(lab, version)] + known_secrets(lab)
    diskscan.shut_down_and_search(lab, planted, hidden)


def known_secrets(lab: Lab) -> list[Secret]:
    """Returns further secrets of the running host: a hook for keys that a later product lets one see."""
    del lab
    return []


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
