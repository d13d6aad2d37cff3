"""Builds the guests' initramfs: busybox, xen-tpmfront and tpm2-tools, taken from the dom0's tree."""

import os
import re
import shutil
import stat
import subprocess
from pathlib import Path

LAB = Path(__file__).resolve().parent.parent
MODULES = ["xen-tpmfront"]
TOOLS = ["usr/bin/tpm2"]
LOADED_AT_RUN_TIME = ["usr/lib/x86_64-linux-gnu/libtss2-tcti-device.so.0"]


def build(tree: Path, staging: Path, initrd: Path) -> None:
    """Writes an initramfs made of files from `tree` (a Debian root) and tests/lab/guest."""
    for directory in ("bin", "sbin", "usr/bin", "usr/sbin", "dev", "proc", "sys", "tmp", "run", "lib/modules"):
        (staging / directory).mkdir(parents=True)
    shutil.copytree(LAB / "guest", staging, dirs_exist_ok=True)
    _add_busybox(tree, staging)
    _add_modules(tree, staging)
    for tool in TOOLS + LOADED_AT_RUN_TIME:
        _add_with_libraries(tree, staging, tool)
    for link in (tree / "usr/bin").glob("tpm2_*"):
        (staging / "usr/bin" / link.name).symlink_to("tpm2")
    os.mknod(staging / "dev/console", 0o600 | stat.S_IFCHR, os.makedev(5, 1))
    _pack(staging, initrd)


def _add_busybox(tree: Path, staging: Path) -> None:
    shutil.copy(tree / "bin/busybox", staging / "bin/busybox")
    applets = subprocess.run([tree / "bin/busybox", "--list-full"], check=True, capture_output=True, text=True)
    for applet in applets.stdout.split():
        link = staging / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to("/bin/busybox")
    (staging / "init").symlink_to("/bin/busybox")


def _add_modules(tree: Path, staging: Path) -> None:
    """Copies the modules, and those they need, numbered in the order in which they must be loaded."""
    modules = next((tree / "lib/modules").iterdir())
    needs = dict(line.split(":", 1) for line in (modules / "modules.dep").read_text(encoding="ascii").splitlines())
    order: list[str] = []
    for name in MODULES:
        path = next(p for p in needs if Path(p).stem == name)
        order += [p for p in [*reversed(needs[path].split()), path] if p not in order]
    for number, path in enumerate(order):
        shutil.copy(modules / path, staging / f"lib/modules/{number:02}-{Path(path).name}")


def _add_with_libraries(tree: Path, staging: Path, file: str) -> None:
    listing = subprocess.run(["chroot", tree, "ldd", f"/{file}"], check=True, capture_output=True, text=True).stdout
    for path in [f"/{file}", *re.findall(r"(/\S+) \(0x", listing)]:
        target = staging / path.lstrip("/")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(tree / path.lstrip("/"), target)


def _pack(staging: Path, initrd: Path) -> None:
    """Packs without compression: unpacking would cost each guest seconds under emulation."""
    names = "\n".join(sorted(str(p.relative_to(staging)) for p in staging.rglob("*")))
    with open(initrd, "wb") as out:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=staging, input=names.encode(),
                       stdout=out, check=True)
