"""A whole Debian with xen-vtpm-guest: disks that the TPM opens in the initramfs, ssh and OpenSSL keys, attestation."""

from pathlib import Path

from xenlab import debianguest, vtpm
from xenlab.expect import expect, expect_equal
from xenlab.guest import Guest, GuestConfig
from xenlab.lab import Lab, copy_disk
from xenlab.product import find_deb
from xenlab.say import say, step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
NAME = "debian20"
SAVE = "/var/tmp/debian20.save"
BOOTS_S = 600
UUIDS = {"systemd": "11111111-2222-4333-8444-555555555555", "clevis": "66666666-7777-4888-8999-aaaaaaaaaaaa"}
ENVIRONMENT = "export TPM2TOOLS_TCTI=device:/dev/tpmrm0 TPM2OPENSSL_TCTI=device:/dev/tpmrm0 " \
              "TPM2_PKCS11_TCTI=device:/dev/tpmrm0 TPM2_PKCS11_STORE=/root/pkcs11 HOME=/root; cd /root; set -e; "
ATTACH = "/lib/systemd/systemd-cryptsetup attach systemd /dev/xvdb - tpm2-device=auto,headless=true"


def run(lab: Lab) -> None:
    """Three boots of one PV guest: with initramfs-tools, with dracut, and with what update-initramfs made in it."""
    deb = find_deb(lab.directory)
    disk = debianguest.debian_guest(deb.parent / deb.name.replace("xen-vtpm_", "xen-vtpm-guest_"))
    _boot_host(lab, disk)
    instance = vtpm.create(lab, NAME, "2.0")
    guest = _boot(lab, instance, "initramfs-tools")
    _expect_whole_tpm(guest)
    _enrol(guest)
    _make_keys(guest)
    _use_keys(guest)
    _refused_after_measurement(guest)
    _started_anew(guest)
    _end(guest)
    guest = _boot(lab, instance, "dracut", f"rd.luks.name={UUIDS['systemd']}=systemd "
                                           f"rd.luks.options={UUIDS['systemd']}=tpm2-device=auto,headless=true")
    _expect_whole_tpm(guest)
    _expect_opened_by_dracut(guest)
    _disturb(lab, guest)
    guest = _saved_and_restored(lab, guest)
    _end(guest)
    _take(lab, "initrd.img-*")
    lab.check("mv /srv/lab/debian-initrd.img-* /srv/lab/debian-initrd-updated")
    guest = _boot(lab, instance, "updated")
    _expect_whole_tpm(guest)
    step("clevis has opened its disk in the initramfs")
    expect("clevis" in guest.check("cat /run/initramfs-saw"), "the disk was not open when the initramfs ended")
    expect_equal(guest.check("head -c 6 /dev/mapper/clevis"), "secret", "what is on the disk that clevis opens")
    _use_keys(guest)
    _end(guest)
    vtpm.delete(lab, instance)
    vtpm.expect_nothing_left(lab)


def _boot_host(lab: Lab, disk: Path) -> None:
    """The guest's disk is a copy of this one; it has two more, which are empty."""
    system = lab.directory / "guest.img"
    copy_disk(disk, system)
    lab.more_disks = [system, lab.directory / "systemd.img", lab.directory / "clevis.img"]
    for more in lab.more_disks[1:]:
        with open(more, "wb") as empty:
            empty.truncate(32 << 20)
    lab.boot(cpus=1)
    _take(lab, "vmlinux initrd-initramfs-tools initrd-dracut")


def _take(lab: Lab, files: str) -> None:
    """As a boot loader would: from the guest's disk."""
    lab.check(f"mount -o ro /dev/vdb /mnt && cd /mnt/boot && for f in {files}; do cp $f /srv/lab/debian-$(basename $f) || exit 1; done && cd / && "
              "umount /mnt", 300)


def _boot(lab: Lab, instance: vtpm.Instance, initrd: str, arguments: str = "") -> Guest:
    step(f"the guest boots; its initramfs: {initrd}")
    config = GuestConfig(NAME, "pv", instance.line, 512, f"/srv/lab/debian-initrd-{initrd}", kernel="/srv/lab/debian-vmlinux",
                         arguments=f"root=/dev/xvda ro quiet systemd.show_status=0 {arguments}",
                         disks=("/dev/vdb", "/dev/vdc", "/dev/vdd"))
    guest = lab.start_guest(config)
    with timed("booting the guest"):
        guest.wait_ready(BOOTS_S)
    return guest


def _expect_whole_tpm(guest: Guest) -> None:
    """The process of the initramfs has handed over to the unit, under the same number."""
    guest.check("systemctl is-system-running --wait || systemctl --failed; systemctl is-active vtpm-front@vtpm-0", BOOTS_S)
    expect_equal(guest.check("ls -d /sys/class/tpm/tpm* /dev/tpm*").split(),
                 ["/dev/tpm0", "/dev/tpmrm0", "/sys/class/tpm/tpm0"], "TPMs of the guest")
    expect_equal(guest.check("pidof vtpm-front"), guest.check("systemctl show --value -p MainPID vtpm-front@vtpm-0"),
                 "processes of vtpm-front, and the unit's")
    expect_equal(guest.check("systemctl --failed --no-legend"), "", "failed units of the guest")
    _tell_boot(guest)


def _tell_boot(guest: Guest) -> None:
    """Where the time of a boot went, for whoever wonders."""
    say(guest.check("systemd-analyze time; systemd-analyze critical-chain --no-pager | head -n 20; "
                    "systemd-analyze blame --no-pager | head -n 10; journalctl -b --no-pager -o short-monotonic | "
                    "grep -i -e 'dracut-initqueue.*Warning' -e 'timed out' -e 'Switching root' -e 'vtpm-front' || true", 300))


def _enrol(guest: Guest) -> None:
    step("systemd-cryptenroll and clevis enrol a disk each")
    for disk, device in (("systemd", "/dev/xvdb"), ("clevis", "/dev/xvdc")):
        guest.check(f"{ENVIRONMENT} printf passphrase >key; cryptsetup luksFormat --batch-mode --type luks2 --pbkdf pbkdf2 "
                    f"--pbkdf-force-iterations 1000 --uuid {UUIDS[disk]} --key-file key {device}; "
                    f"cryptsetup open --key-file key {device} {disk}; printf secret >/dev/mapper/{disk}; sync; "
                    f"cryptsetup close {disk}", 300)
    guest.check(f"{ENVIRONMENT} PASSWORD=passphrase systemd-cryptenroll --tpm2-device=auto --tpm2-pcrs=7+8 /dev/xvdb", 300)
    guest.check(ENVIRONMENT + "clevis luks bind -y -k key -d /dev/xvdc tpm2 "
                """'{"pcr_bank":"sha256","pcr_ids":"7,8"}'""", 300)
    step("update-initramfs in the guest, for clevis")
    guest.check(f"{ENVIRONMENT} echo clevis UUID={UUIDS['clevis']} none luks,initramfs,noauto >>/etc/crypttab; "
                "update-initramfs -u", 1800)
    guest.check(f"{ATTACH} && head -c 6 /dev/mapper/systemd | grep -q secret && cryptsetup close systemd", 300)


def _make_keys(guest: Guest) -> None:
    step("keys for OpenSSL, ssh and attestation")
    guest.check(ENVIRONMENT + "openssl genpkey -provider tpm2 -algorithm EC -pkeyopt group:P-256 -out openssl.pem; "
                "openssl pkey -provider tpm2 -provider default -in openssl.pem -pubout -out openssl.pub", 300)
    guest.check(ENVIRONMENT + "mkdir -p pkcs11 .ssh /run/sshd; tpm2_ptool init; "
                "tpm2_ptool addtoken --pid=1 --label=lab --userpin=1234 --sopin=5678; "
                "tpm2_ptool addkey --algorithm=ecc256 --label=lab --userpin=1234; "
                "printf '#!/bin/sh\\necho 1234\\n' >pin; chmod 755 pin; "
                "ssh-keygen -D /usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1 >.ssh/authorized_keys", 600)
    guest.check(ENVIRONMENT + "tpm2_createak -C 0x81010002 -c ak.ctx -G ecc -g sha256 -s ecdsa -u ak.pub -f pem -n ak.name; "
                "tpm2_evictcontrol -C o -c ak.ctx 0x81008000; tpm2_selftest -f", 300)


def _use_keys(guest: Guest) -> None:
    step("OpenSSL signs, ssh logs in, a quote is checked")
    guest.check(ENVIRONMENT + "echo data >data; "
                "openssl pkeyutl -provider tpm2 -provider default -propquery '?provider=tpm2' -inkey openssl.pem "
                "-sign -rawin -in data -digest sha256 -out data.sig; "
                "openssl dgst -sha256 -verify openssl.pub -signature data.sig data", 300)
    guest.check(ENVIRONMENT + "mkdir -p /run/sshd; /usr/sbin/sshd -p 2222 -o ListenAddress=127.0.0.1; "
                "SSH_ASKPASS=/root/pin SSH_ASKPASS_REQUIRE=force ssh -p 2222 -o StrictHostKeyChecking=no "
                "-o BatchMode=no -I /usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1 root@127.0.0.1 true; "
                "kill $(cat /run/sshd.pid)", 300)
    guest.check(ENVIRONMENT + "tpm2_quote -c 0x81008000 -l sha256:0,7,8 -q abcd -m q.msg -s q.sig -o q.pcrs -g sha256; "
                "tpm2_checkquote -u ak.pub -m q.msg -s q.sig -f q.pcrs -g sha256 -q abcd", 300)


def _refused_after_measurement(guest: Guest) -> None:
    step("after a PCR has changed, neither disk opens")
    guest.check(f"{ENVIRONMENT} tpm2_pcrextend 8:sha256={'ab' * 32}")
    expect(guest.sh(f"{ENVIRONMENT} {ATTACH}", 300)[0] not in (0, 124, 125), "systemd opened it")
    expect(guest.sh(f"{ENVIRONMENT} clevis luks unlock -d /dev/xvdc -n clevis", 300)[0] not in (0, 124, 125), "clevis opened it")
    guest.check("! ls /dev/mapper/systemd /dev/mapper/clevis")


def _started_anew(guest: Guest) -> None:
    step("the unit is stopped and started, as where no initramfs has made the TPM")
    guest.check("systemctl stop vtpm-front@vtpm-0; ! ls /dev/tpm0; timeout 60 systemctl start vtpm-front@vtpm-0")
    guest.check("tpm2_getrandom -T device:/dev/tpmrm0 --hex 8")


def _expect_opened_by_dracut(guest: Guest) -> None:
    step("systemd has opened its disk in the initramfs")
    expect_equal(guest.check("head -c 6 /dev/mapper/systemd"), "secret", "what is on the disk that systemd opens")
    order = guest.check("journalctl -b -o cat | grep -n -e 'Finished systemd-cryptsetup@systemd.service' -e 'Switching root'")
    lines = order.splitlines()
    expect(len(lines) >= 2 and "Finished" in lines[0] and "Switching" in order, f"when it was opened:\n{order}")


def _disturb(lab: Lab, guest: Guest) -> None:
    step("the host's daemons are restarted; the disk is closed and opened again")
    for deed in (f"systemctl restart {vtpm.unit(guest.domid)}", "systemctl restart vtpmmgrd"):
        lab.check(deed, 60)
        guest.check(f"cryptsetup close systemd; for i in $(seq 10); do {ATTACH} && exit 0; sleep 1; done; exit 1", 300)


def _saved_and_restored(lab: Lab, guest: Guest) -> Guest:
    step("xl save and xl restore; the disk is closed and opened again")
    guest.save(SAVE)
    guest = lab.restore_guest(NAME, SAVE)
    guest.check(f"cryptsetup close systemd; for i in $(seq 10); do {ATTACH} && exit 0; sleep 1; done; exit 1", 300)
    _use_keys(guest)
    return guest


def _end(guest: Guest) -> None:
    guest.shutdown(300)
    log = guest.console_log()
    expect("kernel BUG" not in log, "the guest's kernel stopped on something")
    expect("timeout closing device" not in log, "the TPM held up the shutdown")
