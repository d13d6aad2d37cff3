"""Gets the product onto a host's disk as an administrator would: apt install, vtpmctl setup."""

import os
import subprocess
from pathlib import Path

from . import cache
from .agent import LabError
from .chip import Chip
from .dom0image import Dom0Image
from .lab import Lab, copy_disk
from .say import timed

TREE = Path(__file__).resolve().parents[3]
INSTALL = "cd /run/lab && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ./xen-vtpm_lab.deb"


class NoProduct(Exception):
    """There is no .deb, and none can be built."""


def find_deb(directory: Path) -> Path:
    """Returns the .deb: $XEN_VTPM_DEB, or what packaging/build-deb makes in `directory`."""
    if given := os.environ.get("XEN_VTPM_DEB"):
        if not Path(given).is_file():
            raise NoProduct(f"XEN_VTPM_DEB names no file: {given}")
        return Path(given)
    builder = TREE / "packaging/build-deb"
    if not builder.is_file():
        raise NoProduct("XEN_VTPM_DEB is not set and packaging/build-deb is not there")
    log = directory / "build-deb.log"
    with timed("building the .deb"), open(log, "w", encoding="utf-8") as errors:
        done = subprocess.run([builder, directory], stdout=subprocess.PIPE, stderr=errors, text=True, check=False)
    lines = done.stdout.strip().splitlines()
    if done.returncode != 0 or not lines or not Path(lines[-1]).is_file():
        raise NoProduct(f"packaging/build-deb failed:\n{(done.stdout + log.read_text(encoding='utf-8'))[-3000:]}")
    return Path(lines[-1])


def installed(image: Dom0Image, deb: Path) -> Path:
    """Returns a cache directory with disk.img and chip/ of a host on which the product has been set up."""
    return cache.get("installed", cache.key_of(image.key, deb, Path(__file__)),
                     lambda directory: _install(image, deb, directory), keep=2)


def _install(image: Dom0Image, deb: Path, directory: Path) -> None:
    copy_disk(image.disk, directory / "disk.img")
    lab = Lab(image, directory / "disk.img", Chip(directory / "chip"), directory)
    try:
        with timed("booting a host to install the .deb on"):
            lab.boot()
        lab.agent.put("/run/lab/xen-vtpm_lab.deb", deb.read_bytes())
        with timed("apt install"):
            said = lab.check(INSTALL, 600)
        with timed("vtpmctl setup"):
            said += "\n" + lab.check("vtpmctl setup", 600)
        (directory / "install.log").write_text(said + "\n", encoding="utf-8")
        lab.shutdown()
    except LabError as error:
        raise NoProduct(f"the .deb could not be installed: {error}\n{_why(lab)}") from error
    finally:
        lab.close()


def _why(lab: Lab) -> str:
    try:
        return lab.sh("journalctl -b --no-pager -p notice | tail -n 40").out if lab.is_on else ""
    except LabError:
        return lab.machine.console_tail()
