"""Gets the package xen-vtpm-guest into guests: makes an initramfs for them that has its program and modules."""

from pathlib import Path

from .lab import Lab

INITRD = "/run/lab/initrd-front"
# The guest's kernel and libraries are the dom0's. The kernel unpacks one archive after the other. Not made in
# /run, where nothing may be executed, not even by ldd.
MAKE_INITRD = f"""set -e -o pipefail
rm -rf /dev/shm/extra && mkdir -p /dev/shm/extra/lib/modules && cd /dev/shm/extra
dpkg -x /run/lab/xen-vtpm-guest_lab.deb .
libraries=$(ldd usr/sbin/vtpm-front | grep -o '/[^ ]*')
for library in $libraries; do
    mkdir -p .$(dirname $library) && cp -L $library .$library
done
n=90
for module in xen-evtchn xen-gntalloc tpm_vtpm_proxy; do
    cp $(modinfo -n $module) lib/modules/$n-$module.ko && n=$((n + 1))
done
{{ cat /srv/lab/initrd; find . | cpio --quiet -o -H newc -R 0:0; }} >{INITRD}
rm -rf /dev/shm/extra
"""


def install(lab: Lab, host_deb: Path) -> str:
    """Returns the path, in the dom0, of an initramfs whose guests have vtpm-front; its package lies beside the host's."""
    deb = host_deb.parent / host_deb.name.replace("xen-vtpm_", "xen-vtpm-guest_")
    lab.agent.put("/run/lab/xen-vtpm-guest_lab.deb", deb.read_bytes(), 0o644)
    lab.check(MAKE_INITRD)
    return INITRD
