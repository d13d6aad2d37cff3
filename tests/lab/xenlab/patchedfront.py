"""The guests' kernel driver with the patch of docs/upstream, as a module in their initramfs."""

import subprocess
import tempfile
from pathlib import Path

from . import cache, guestmodule
from .lab import Lab

PATCH = Path(__file__).resolve().parents[3] / "docs/upstream/xen-tpmfront-tpm2.patch"
DRIVER = "xen-tpmfront"
FILES = ["drivers/char/tpm/xen-tpmfront.c", "drivers/char/tpm/tpm.h"]
INITRD = "/run/lab/initrd-patched"
# The kernel unpacks one archive after the other: this one's file takes the stock one's place.
MAKE_INITRD = f"""set -e -o pipefail
rm -rf /dev/shm/extra && mkdir -p /dev/shm/extra && cd /dev/shm/extra
stock=$(cpio --quiet -t </srv/lab/initrd | grep '{DRIVER}.ko$')
mkdir -p $(dirname $stock) && cp /run/lab/{DRIVER}.ko $stock
{{ cat /srv/lab/initrd; find . | cpio --quiet -o -H newc -R 0:0; }} >{INITRD}
rm -rf /dev/shm/extra
"""


def install(lab: Lab) -> str:
    """Returns the path, in the dom0, of an initramfs whose guests have the patched driver."""
    kernel = lab.check("uname -r").strip()
    version = lab.check("uname -v").split()[-2]  # "#1 SMP PREEMPT_DYNAMIC Debian 6.1.170-1 (2026-04-02)"
    module = guestmodule.module(DRIVER, kernel, cache.key_of(PATCH, Path(__file__)), lambda source: _patch(source, version))
    lab.agent.put(f"/run/lab/{DRIVER}.ko", module.read_bytes(), 0o644)
    lab.check(MAKE_INITRD)
    return INITRD


def _patch(source: Path, version: str) -> None:
    """The driver's source of that kernel, with the patch on it."""
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        package = f"linux-source-{'.'.join(version.split('.')[:2])}"
        otherwise = f"the source of kernel {version} is not to be had"
        guestmodule.run(["apt-get", "-qq", "download", f"{package}={version}"], otherwise, directory)
        guestmodule.run(["dpkg-deb", "-x", next(directory.glob("*.deb")), "."], otherwise, directory)
        subprocess.run(["tar", "-xf", directory / f"usr/src/{package}.tar.xz", "--strip-components=1", "-C", directory,
                        *[f"{package}/{file}" for file in FILES]], check=True)
        guestmodule.run(["patch", "-p1", "-i", PATCH], "the patch does not fit", directory)
        for file in FILES:
            (directory / file).rename(source / Path(file).name)
    (source / "Makefile").write_text(f"obj-m := {DRIVER}.o\n", encoding="ascii")
