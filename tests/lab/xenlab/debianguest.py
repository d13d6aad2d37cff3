"""Builds the disk of a guest that is a whole Debian: systemd, udev, encrypted disks, and the package xen-vtpm-guest."""

import shutil
import subprocess
from pathlib import Path

from . import cache, debiantree, sources
from .say import timed

LAB = Path(__file__).resolve().parent.parent
DISK_MIB = 1536

PACKAGES = """
    systemd systemd-sysv udev dbus kmod linux-image-amd64 initramfs-tools dracut-core
    cryptsetup-bin cryptsetup-initramfs clevis clevis-tpm2 clevis-luks clevis-initramfs
    tpm2-tools tpm-udev libtss2-tcti-device0 tpm2-openssl libtpm2-pkcs11-1 libtpm2-pkcs11-tools openssh-server openssl
    libspdlog1.10 libxenevtchn1 libxengnttab1 libxenstore4 xxd
""".split()

INITRD_MODULES = "xen-blkfront\next4\ncrc32c_generic\ndm-crypt\nxts\n"
# Its console is the lab's.
MASKED = "serial-getty@hvc0.service apt-daily.timer apt-daily-upgrade.timer fstrim.timer ssh.service".split()


def debian_guest(guest_deb: Path) -> Path:
    """Returns the disk, with this package installed, built when the cache does not have it.

    On it, in /boot, are vmlinux, initrd-dracut and initrd-initramfs-tools, which a host has to take from there.
    """
    key = cache.key_of(_tree_key(), guest_deb, LAB / "debian", LAB / "guest/lab/agent", Path(__file__))

    def build(directory: Path) -> None:
        tree = cache.get("guesttree", _tree_key(), _build_tree) / "tree.tar"
        with timed("building a Debian guest's disk"):
            _build(tree, guest_deb, directory)

    return cache.get("guest", key, build) / "disk.img"


def _tree_key() -> str:
    return cache.key_of(" ".join(PACKAGES), " ".join(debiantree.LEFT_OUT), sources.RELEASE)


def _build_tree(directory: Path) -> None:
    with timed("installing a guest's Debian into a tree (once; some minutes)"):
        debiantree.make(PACKAGES, directory, [])


def _build(tree_tar: Path, guest_deb: Path, directory: Path) -> None:
    root = directory / "root"
    root.mkdir()
    subprocess.run(["tar", "-xf", tree_tar, "-C", root, "--exclude=./dev/*"], check=True)
    _configure(root)
    shutil.copy(guest_deb, root / "guest.deb")
    # The package's triggers make the initramfs.
    _chroot(root, directory, "dpkg", "-i", "/guest.deb")
    (root / "guest.deb").unlink()
    kernel = next((root / "lib/modules").iterdir()).name
    _chroot(root, directory, "dracut", "--force", "/boot/initrd-dracut", kernel)
    _chroot(root, directory, "systemctl", "--quiet", "enable", "xenlab-agent.service")
    _chroot(root, directory, "systemctl", "--quiet", "mask", *MASKED)
    boot = root / "boot"
    (boot / "vmlinux").write_bytes(debiantree.unpack_kernel((boot / f"vmlinuz-{kernel}").read_bytes()))
    shutil.copy(boot / f"initrd.img-{kernel}", boot / "initrd-initramfs-tools")
    debiantree.make_disk(root, directory / "disk.img", DISK_MIB)
    shutil.rmtree(root)


def _configure(root: Path) -> None:
    shutil.copytree(LAB / "debian", root, dirs_exist_ok=True)
    (root / "lab").mkdir()
    shutil.copy(LAB / "guest/lab/agent", root / "lab/agent")
    (root / "etc/initramfs-tools/modules").write_text(INITRD_MODULES, encoding="ascii")
    (root / "etc/hostname").write_text("guest\n", encoding="ascii")
    (root / "etc/machine-id").write_text("fedcba9876543210fedcba9876543210\n", encoding="ascii")
    (root / "etc/fstab").write_text("/dev/xvda / ext4 errors=remount-ro 0 1\n", encoding="ascii")


def _chroot(root: Path, directory: Path, *command: str) -> None:
    log = directory / "build.log"
    with open(log, "a", encoding="utf-8") as out:
        mounts = "mount --bind /dev dev && mount -t proc proc proc && mount -t sysfs sysfs sys && exec chroot . \"$@\""
        done = subprocess.run(["unshare", "--mount", "sh", "-c", mounts, "sh", *command], cwd=root, stdout=out,
                              stderr=subprocess.STDOUT, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed in a guest's tree:\n{log.read_text(encoding='utf-8', errors='replace')[-3000:]}")
