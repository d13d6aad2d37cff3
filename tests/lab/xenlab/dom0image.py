"""Builds the dom0: a Debian tree made once by mmdebstrap, and from it a disk that QEMU boots."""

import gzip
import shutil
import subprocess
from pathlib import Path

from . import cache, debiantree, guestimage, sources
from .say import timed

LAB = Path(__file__).resolve().parent.parent
DISK_MIB = 2048

PACKAGES = """
    systemd systemd-sysv udev dbus kmod procps psmisc lsof strace less openssl sqlite3 python3 adduser iproute2
    linux-image-amd64 initramfs-tools zstd busybox-static
    xen-hypervisor-4.17-amd64 xen-utils-4.17 xenstore-utils
    tpm2-tools tpm-udev libtss2-tcti-device0 libtss2-tcti-swtpm0
    libtpms0 libprotobuf-lite32 libsqlite3-0 libseccomp2 libcap-ng0 libspdlog1.10 libfmt9 libssl3 libsystemd0
    libboost-system1.74.0
""".split()

# All that the dom0 needs to find its disk.
INITRD_MODULES = "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n"

MASKED = """
    apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service
    fstrim.timer systemd-networkd-wait-online.service xendomains.service
""".split()


class Dom0Image:
    """The files that one boot of the lab needs, all in one cache directory."""

    def __init__(self, directory: Path) -> None:
        self.xen = directory / "xen.elf"
        self.kernel = directory / "vmlinux"
        self.initrd = directory / "initrd.img"
        self.disk = directory / "disk.img"
        self.key = directory.name


def dom0_image() -> Dom0Image:
    """Returns the dom0, built when the cache does not have it."""
    tree_key = _tree_key()
    recipe = [LAB / "dom0", LAB / "guest", Path(__file__), Path(guestimage.__file__)]
    image_key = cache.key_of(tree_key, *recipe)

    def build(directory: Path) -> None:
        tree = debian_tree()
        with timed("building the dom0's disk"):
            _build_image(tree, directory)

    return Dom0Image(cache.get("dom0", image_key, build))


def debian_tree() -> Path:
    """Returns the Debian of it as a tar file, built when the cache does not have it."""
    return cache.get("tree", _tree_key(), _build_tree) / "tree.tar"


def _tree_key() -> str:
    return cache.key_of(" ".join(PACKAGES), " ".join(debiantree.LEFT_OUT), sources.RELEASE, INITRD_MODULES)


def _build_tree(directory: Path) -> None:
    """Makes tree.tar: the packages as installed, nothing of the lab's own yet."""
    with timed("installing Debian and Xen into a tree (once; some minutes)"):
        debiantree.make(PACKAGES, directory, [
            "--essential-hook=mkdir -p $1/etc/initramfs-tools/conf.d",
            '--essential-hook=echo MODULES=list > "$1/etc/initramfs-tools/conf.d/lab"',
            f'--essential-hook=printf "{INITRD_MODULES}" > "$1/etc/initramfs-tools/modules"'])


def _build_image(tree_tar: Path, directory: Path) -> None:
    root = directory / "root"
    root.mkdir()
    # The kernel makes the device nodes itself, and tar may not be allowed to.
    subprocess.run(["tar", "-xf", tree_tar, "-C", root, "--exclude=./dev/*"], check=True)
    _take_boot_files(root / "boot", directory)
    _configure(root)
    guests = root / "srv/lab"
    guests.mkdir(parents=True)
    shutil.copy(directory / "vmlinux", guests / "vmlinux")
    guestimage.build(root, directory / "guest", guests / "initrd")
    debiantree.make_disk(root, directory / "disk.img", DISK_MIB)
    shutil.rmtree(root)
    shutil.rmtree(directory / "guest")


def _take_boot_files(boot: Path, directory: Path) -> None:
    """Copies out what QEMU loads. Xen takes a multiboot ELF; the kernel is unpacked here because to unpack
    xz in an emulated machine costs every boot, and every guest, several seconds."""
    (directory / "xen.elf").write_bytes(gzip.decompress(next(boot.glob("xen-*-amd64.gz")).read_bytes()))
    (directory / "vmlinux").write_bytes(debiantree.unpack_kernel(next(boot.glob("vmlinuz-*")).read_bytes()))
    shutil.copy(next(boot.glob("initrd.img-*")), directory / "initrd.img")


def _configure(root: Path) -> None:
    """Adds the lab's own files and makes the system quiet."""
    shutil.copytree(LAB / "dom0", root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "etc/hostname").write_text("dom0\n", encoding="ascii")
    (root / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n", encoding="ascii")
    (root / "etc/fstab").write_text("/dev/vda / ext4 errors=remount-ro 0 1\n", encoding="ascii")
    # Scenarios read what a boot that ended with a power cut had logged.
    (root / "var/log/journal").mkdir(exist_ok=True)
    subprocess.run(["chroot", root, "passwd", "-d", "root"], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    subprocess.run(["chroot", root, "systemctl", "--quiet", "mask", *MASKED], check=True)
