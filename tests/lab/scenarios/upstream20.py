"""The kernel patch of docs/upstream in a guest: /dev/tpmrm0 from the kernel's own driver, and TPM 1.2 as before."""

from xenlab import patchedfront, vtpm
from xenlab.expect import expect, expect_equal
from xenlab.guest import GuestConfig
from xenlab.guesttpm import GuestTpm12
from xenlab.lab import Lab
from xenlab.say import step

NEEDS_PRODUCT = True
OWN_HOST = False


def run(lab: Lab) -> None:
    """A guest of each kind, and one with a TPM 1.2."""
    ramdisk = patchedfront.install(lab)
    for kind in ("pv", "pvh"):
        _has_2_0(lab, kind, ramdisk)
    _has_1_2(lab, ramdisk)
    vtpm.expect_nothing_left(lab)


def _has_2_0(lab: Lab, kind: str, ramdisk: str) -> None:
    step(f"{kind}: the patched driver makes /dev/tpm0 and /dev/tpmrm0")
    instance = vtpm.create(lab, f"upstream{kind}", "2.0")
    guest = lab.create_guest(f"upstream{kind}", kind, instance.line, ramdisk=ramdisk)
    guest.check("test -c /dev/tpm0 && test -c /dev/tpmrm0 && test -e /sys/bus/xen/devices/vtpm-0/driver || "
                "{ dmesg | tail -n 40; ls /dev/tpm*; exit 1; }")
    expect_equal(guest.check("cat /sys/class/tpm/tpm0/tpm_version_major"), "2", "version that the kernel sees")
    expect("tpm-rng" in guest.check("cat /sys/class/misc/hw_random/rng_available"), "no tpm-rng")
    guest.check("export TPM2TOOLS_TCTI=device:/dev/tpmrm0; tpm2_pcrextend 16:sha256=" + "a1" * 32 +
                "; for i in 1 2 3 4 5; do tpm2_createprimary -C o -c /tmp/p$i >/dev/null || exit 1; done; "
                "tpm2_readpublic -c /tmp/p1 >/dev/null", 300)
    guest.shutdown()
    vtpm.delete(lab, instance)


def _has_1_2(lab: Lab, ramdisk: str) -> None:
    step("a TPM 1.2 is one with the patched driver too")
    instance = vtpm.create(lab, "upstream12", "1.2")
    guest = lab.create_guest("upstream12", "pv", instance.line, ramdisk=ramdisk)
    expect_equal(guest.check("cat /sys/class/tpm/tpm0/tpm_version_major"), "1", "version that the kernel sees")
    guest.check("! test -e /dev/tpmrm0")
    GuestTpm12(guest).write_secret(b"\x5a" * 32)
    guest.shutdown()
    vtpm.delete(lab, instance)
