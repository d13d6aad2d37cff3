"""Boots that an approver has signed open the vault, before they happen, too; another one gets nothing."""

import hashlib
import secrets
import subprocess

from xenlab import measured, vtpm
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import GuestConfig
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
PCR = 12


def run(lab: Lab) -> None:
    """One host, four boots that measure different things; the approver's key never comes to it."""
    with timed("booting"):
        lab.boot()
    measured.install(lab, measured.script20(PCR))
    _boot(lab, "one")
    key = lab.directory / "approver.pem"
    _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(key))
    lab.agent.put("/root/approver.pub", _openssl("pkey", "-in", str(key), "-pubout"))
    instance = vtpm.create(lab, "bound", "2.0")
    step("the host gets an approver, and this boot is approved")
    lab.check(f"vtpmctl approver --key /root/approver.pub --pcrs {PCR} --yes")
    _approve(lab, key, "this-boot")
    secret = secrets.token_bytes(32)
    guest = lab.create_guest("bound", "pv", instance.line)
    tpm_of(guest, "2.0").write_secret(secret)
    guest.shutdown()

    step("the next boot is approved before it happens")
    value = hashlib.sha256(bytes(32) + hashlib.sha256(b"two").digest()).hexdigest()
    _approve(lab, key, f"next --pcr {PCR}={value}")
    _boot(lab, "two")
    guest = lab.create_guest("bound", "pv", instance.line)
    expect_equal(tpm_of(guest, "2.0").read_secret(32), secret, "the secret on a boot that was approved before")
    expect_in("closed", lab.check("vtpmctl status | grep latch"), "the boot latch")
    guest.shutdown()

    _boot(lab, "three")
    step("a boot that nobody has approved: locked, and the guest is told why")
    status = lab.sh("vtpmctl status").out
    expect_in("locked", status, "vtpmctl status")
    expect_in(f"PCR {PCR}", status, "vtpmctl status")
    cursor = lab.journal_cursor()
    refused, _ = lab.try_create(GuestConfig("bound", "pv", instance.line))
    expect(refused != 0, "a guest got its TPM on a boot that nobody has approved")
    expect_in("not approved", lab.journal("vtpmd@*", since=cursor), "the journal of vtpmd")
    step("it is approved while it runs")
    _approve(lab, key, "this-boot")
    guest = lab.create_guest("bound", "pv", instance.line)
    expect_equal(tpm_of(guest, "2.0").read_secret(32), secret, "the secret once this boot is approved")
    guest.shutdown()


def _boot(lab: Lab, what: str) -> None:
    with timed(f"booting a system that measures '{what}'"):
        measured.choose(lab, what)
        lab.check("sync")
        lab.reboot()


def _openssl(*words: str) -> bytes:
    return subprocess.run(["openssl", *words], check=True, capture_output=True).stdout


def _approve(lab: Lab, key: object, what: str) -> None:
    """Signs on another machine, with nothing but openssl."""
    lab.check("rm -f /root/boot /root/boot.words /root/boot.sig")
    lab.check(f"vtpmctl approve {what} --out /root/boot")
    words = lab.directory / "words"
    words.write_bytes(lab.agent.get("/root/boot.words", 0, 64))
    lab.agent.put("/root/boot.sig", _openssl("dgst", "-sha256", "-sign", str(key), str(words)))
    lab.check("vtpmctl approve import /root/boot --signature /root/boot.sig")
