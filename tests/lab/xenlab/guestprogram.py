"""Gets tests/lab/cheat into guests: builds it and its kernel module, and makes an initramfs for them that has both."""

import shutil
import subprocess
from pathlib import Path

from . import cache, guestmodule
from .lab import Lab
from .say import timed

TREE = Path(__file__).resolve().parents[3]
PROGRAM = "lab-cheat"
MODULE = "grant_entries"
INITRD = "/run/lab/initrd-cheat"
# The guest's kernel is the dom0's, and its libraries come from there as well. The kernel unpacks one archive
# after the other. Not made in /run, where nothing may be executed, not even by ldd.
MAKE_INITRD = f"""set -e -o pipefail
rm -rf /dev/shm/extra && mkdir -p /dev/shm/extra/usr/bin /dev/shm/extra/lib/modules && cd /dev/shm/extra
cp /run/lab/{PROGRAM} usr/bin/
libraries=$(ldd usr/bin/{PROGRAM} | grep -o '/[^ ]*')
for library in $libraries; do
    mkdir -p .$(dirname $library) && cp -L $library .$library
done
cp $(modinfo -n xen-evtchn) lib/modules/90-xen-evtchn.ko
cp $(modinfo -n xen-gntalloc) lib/modules/91-xen-gntalloc.ko
cp /run/lab/{MODULE}.ko lib/modules/92-{MODULE}.ko
{{ cat /srv/lab/initrd; find . | cpio --quiet -o -H newc -R 0:0; }} >{INITRD}
rm -rf /dev/shm/extra
"""


def install(lab: Lab) -> str:
    """Returns the path, in the dom0, of an initramfs whose guests have the program in their PATH."""
    lab.agent.put(f"/run/lab/{PROGRAM}", _build().read_bytes(), 0o755)
    module = _module(lab.check("uname -r").strip())
    lab.agent.put(f"/run/lab/{MODULE}.ko", module.read_bytes(), 0o644)
    lab.check(MAKE_INITRD)
    return INITRD


def _build() -> Path:
    # In the tree and not in the cache: CMake ties a build directory to the sources it was made for.
    directory = TREE / "build" / "guest-program"
    configure = ["cmake", "-G", "Ninja", "-S", TREE, "-B", directory, "-DCMAKE_BUILD_TYPE=RelWithDebInfo"]
    build = ["cmake", "--build", directory, "--target", PROGRAM]
    with timed(f"building {PROGRAM}"):
        subprocess.run([TREE / "tests/deps"], check=True, stdout=subprocess.DEVNULL)
        for command in (configure, build):
            guestmodule.run(command, f"{PROGRAM} could not be built")
    return directory / "tests/lab/cheat" / PROGRAM


def _module(kernel: str) -> Path:
    source = TREE / "tests/lab/cheat/module"

    def put_source(directory: Path) -> None:
        shutil.copytree(source, directory, dirs_exist_ok=True)

    return guestmodule.module(MODULE, kernel, cache.key_of(source), put_source)
