"""Boots that an approver has signed open the vault, before they happen, too; another one gets nothing."""

import hashlib
import secrets
import subprocess

from xenlab import vtpm
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import GuestConfig
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
PCR = 12
# Measures a file before vtpmmgrd starts, as a boot loader measures what it loads: TPM2_PCR_Extend, raw.
MEASURE = f"""#!/bin/bash
for _ in $(seq 300); do [ -c /dev/tpm0 ] && break; sleep 0.1; done
digest=$(sha256sum /etc/measured | cut -c1-64)
command=80020000004100000182000000{PCR:02x}0000000940000009000000000000000001000b$digest
exec 3<>/dev/tpm0
printf "$(sed 's/../\\\\x&/g' <<<"$command")" >&3
head -c 19 <&3 >/dev/null
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


def run(lab: Lab) -> None:
    """One host, four boots that measure different things; the approver's key never comes to it."""
    with timed("booting"):
        lab.boot()
    lab.agent.put("/usr/local/sbin/measure", MEASURE.encode(), 0o755)
    lab.agent.put("/etc/systemd/system/measure.service", UNIT.encode())
    lab.check("systemctl enable measure.service")
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
        lab.agent.put("/etc/measured", what.encode())
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
