"""Makes Debian trees by mmdebstrap, and out of them what QEMU and Xen boot."""

import lzma
import subprocess
from pathlib import Path

from . import sources

# Nothing in a TCG machine drives these, and a small disk is quick to copy for each scenario.
LEFT_OUT = """
    /usr/share/doc/* /usr/share/man/* /usr/share/locale/* /usr/share/info/*
    /lib/modules/*/kernel/sound/*
    /lib/modules/*/kernel/drivers/gpu/* /lib/modules/*/kernel/drivers/media/*
    /lib/modules/*/kernel/drivers/net/[!tvx]* /lib/modules/*/kernel/drivers/infiniband/*
    /lib/modules/*/kernel/drivers/iio/* /lib/modules/*/kernel/drivers/staging/*
    /lib/modules/*/kernel/drivers/scsi/* /lib/modules/*/kernel/drivers/usb/*
    /lib/modules/*/kernel/drivers/input/* /lib/modules/*/kernel/drivers/hwmon/*
    /lib/modules/*/kernel/drivers/ata/* /lib/modules/*/kernel/drivers/mtd/* /lib/modules/*/kernel/drivers/hid/*
""".split()


def make(packages: list[str], directory: Path, hooks: list[str]) -> None:
    """Makes tree.tar in `directory`, a Debian with these packages; `hooks` are options of mmdebstrap."""
    log = directory / "mmdebstrap.log"
    command = ["mmdebstrap", "--variant=apt", "--mode=root", f"--include={','.join(packages)}"]
    command += [f"--aptopt={option}" for option in sources.apt_options()]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += [*hooks, sources.RELEASE, str(directory / "tree.tar"), "-"]
    with open(log, "w", encoding="utf-8") as out:
        done = subprocess.run(command, input="\n".join(sources.deb_lines()) + "\n", text=True, stdout=out,
                              stderr=subprocess.STDOUT, check=False)
    if done.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise RuntimeError(f"mmdebstrap failed:\n{tail}")


def unpack_kernel(image: bytes) -> bytes:
    """Returns the ELF kernel inside a bzImage compressed with xz, as Debian's are."""
    start = image.index(b"\xfd7zXZ\x00")
    kernel = lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(image[start:])
    if not kernel.startswith(b"\x7fELF"):
        raise RuntimeError("the kernel inside vmlinuz is not an ELF file")
    return kernel


def make_disk(root: Path, disk: Path, size_mib: int) -> None:
    """Makes a disk of this size that is one ext4 file system with what is in `root`."""
    with open(disk, "wb") as image:
        image.truncate(size_mib << 20)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-d", root, disk], check=True)
