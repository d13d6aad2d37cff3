#!/bin/bash
# For dracut: vtpm-front in an initramfs with systemd, where udev starts it as in the real root. It
# goes on across the switch to it (main() of vtpm-front says how).

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
    inst_multiple -o "${systemdsystemunitdir:?}/vtpm-front@.service" \
        "$systemdsystemunitdir/modprobe@.service" \
        /usr/lib/modprobe.d/xen-vtpm-guest.conf /lib/modprobe.d/xen-vtpm-guest.conf
    inst_rules 70-xen-vtpm-guest.rules
}
