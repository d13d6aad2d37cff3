"""The package: reinstalled under a running guest, removed (keeps the states), installed again, purged."""

import secrets

from xenlab import vtpm
from xenlab.expect import expect, expect_equal, expect_in
from xenlab.guest import Guest
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.product import INSTALL, find_deb
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
KEY = "/root/recovery"
APT = "DEBIAN_FRONTEND=noninteractive apt-get -y"


def run(lab: Lab) -> None:
    """What dpkg's scripts do on a host that is in use."""
    deb = find_deb(lab.directory)
    with timed("booting"):
        lab.boot()
    lab.agent.put("/run/lab/xen-vtpm_lab.deb", deb.read_bytes())
    lab.check(f"vtpmctl setup --recovery-out {KEY}")
    instance = vtpm.create(lab, "kept", "1.2")
    guest = lab.create_guest("kept", "pv", instance.line)
    secret = secrets.token_bytes(32)
    tpm_of(guest, "1.2").write_secret(secret)
    _reinstall(lab, guest, secret)
    _remove(lab)
    lab.destroy_guests()
    with timed("installing again"):
        lab.check(INSTALL, 600)
    step("the chip has given the keys of this boot to the manager that was removed; the recovery key opens the vault")
    expect_in("once a boot", lab.sh("vtpmctl status").out, "vtpmctl status")
    lab.check(f"vtpmctl unlock --recovery-key {KEY}")
    step("what was kept is there again")
    guest = lab.create_guest("kept", "pv", instance.line)
    expect_equal(tpm_of(guest, "1.2").read_secret(32), secret, "the secret after removal and installation")
    lab.destroy_guests()
    _purge(lab)


def _reinstall(lab: Lab, guest: Guest, secret: bytes) -> None:
    step("installing over itself leaves the running guest its TPM")
    before = vtpm.main_pid(lab, vtpm.unit(guest.domid)), vtpm.main_pid(lab, "vtpmmgrd.service")
    said = lab.check(INSTALL.replace("install", "install --reinstall", 1), 600)
    expect_in("running guests keep their TPMs", said, "what apt said")
    after = vtpm.main_pid(lab, vtpm.unit(guest.domid)), vtpm.main_pid(lab, "vtpmmgrd.service")
    expect_equal(after, before, "processes of vtpmd and vtpmmgrd after the installation")
    expect_equal(tpm_of(guest, "1.2").read_secret(32), secret, "the secret after the installation")


def _remove(lab: Lab) -> None:
    step("removing takes the TPM from the guest, says so, and keeps the states")
    said = lab.check(f"{APT} remove xen-vtpm", 600)
    expect_in("taking the TPM from running guests", said, "what apt said")
    expect_in(f"kept {vtpm.STATE}", said, "what apt said")
    expect_equal(lab.sh("pgrep -l vtpm").out, "", "processes after removal")
    expect(lab.sh("[ -d /var/lib/xen-vtpm ] && [ -e /etc/xen-vtpm/vtpmmgrd.toml ]").status == 0,
           "removal took the states or the configuration")
    expect(lab.wait_until("[ $(stat -c %U /dev/tpm0) = tss ]", 30), "the chip's node has not gone back to tss")


def _purge(lab: Lab) -> None:
    step("purging asks nothing, and says what it removed")
    said = lab.check("apt-get -y purge xen-vtpm </dev/null", 600)
    for gone in (vtpm.STATE, "/etc/xen-vtpm"):
        expect_in(f"removed {gone}", said, "what apt said")
    left = "ls -d /var/lib/xen-vtpm /etc/xen-vtpm /run/xen-vtpm /etc/xen/scripts/vtpm 2>/dev/null"
    expect_equal(lab.sh(left).out, "", "files after purging")
    expect_equal(lab.sh("systemctl list-units --all --plain --no-legend 'vtpm*'").out, "", "units after purging")
