#!/bin/bash
# For dracut: vtpm-front in an initramfs with systemd, where udev starts it by a unit of its own. The
# process goes on in the real root, until vtpm-front@.service takes the TPM over.

check() {
    require_binaries vtpm-front || return 1
    [[ $hostonly ]] && ! compgen -G '/sys/bus/xen/devices/vtpm-*' >/dev/null && return 255
    return 0
}

depends() {
    echo systemd
}

installkernel() {
    hostonly='' instmods xen-evtchn xen-gntalloc tpm_vtpm_proxy xen-tpmfront
}

install() {
    inst_multiple vtpm-front modprobe
    inst_multiple "${systemdsystemunitdir:?}/vtpm-front-initrd@.service"
    inst_simple "${moddir:?}/70-xen-vtpm-guest-initrd.rules" "${udevdir:?}/rules.d/70-xen-vtpm-guest-initrd.rules"
    inst_multiple -o "$systemdsystemunitdir/modprobe@.service" \
        /usr/lib/modprobe.d/xen-vtpm-guest.conf /lib/modprobe.d/xen-vtpm-guest.conf
}
