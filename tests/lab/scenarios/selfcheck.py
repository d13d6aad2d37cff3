"""The lab itself: Xen, the chip, both kinds of guest, host reboot and power cut, without the product."""

from xenlab.expect import expect, expect_equal, expect_in
from xenlab.lab import Lab
from xenlab.say import step, timed

NEEDS_PRODUCT = False
OWN_HOST = True


def run(lab: Lab) -> None:
    """Checks everything that the other scenarios take for granted."""
    with timed("booting"):
        lab.boot(cpus=1)
    _check_dom0(lab)
    _check_guests(lab)
    step("an NV index of the host's chip survives a reboot of the host")
    lab.check("tpm2_nvdefine 0x1500010 -C o -s 8 -a 'ownerread|ownerwrite' && "
              "echo -n survivor | tpm2_nvwrite 0x1500010 -C o -i -")
    with timed("shutting down"):
        lab.shutdown()
    with timed("booting, with a disk that loses what is not flushed"):
        lab.boot(lossy=True)
    expect_equal(lab.check("tpm2_nvread 0x1500010 -C o -s 8"), "survivor", "the chip's NV index after a reboot")
    _check_power_cut(lab)


def _check_dom0(lab: Lab) -> None:
    step("xl info shows Xen 4.17, and the chip answers")
    expect_equal(lab.check("xl info xen_version | cut -d. -f1,2"), "4.17", "Xen's version")
    expect_equal(len(lab.check("tpm2_getrandom --hex 16")), 32, "random hex digits from the chip")
    status, out = lab.sh("echo to be seen; exit 7")
    expect_equal((status, out), (7, "to be seen\n"), "a command's status and output")
    expect_equal(lab.sh("sleep 100", 1).status, 124, "the status of a command that takes too long")
    block = bytes(range(256)) * 8192
    lab.agent.put("/run/lab/block", block)
    expect(lab.agent.get("/run/lab/block", 0, len(block) + 5) == block, "a file does not come back as it was sent")


def _check_guests(lab: Lab) -> None:
    with timed("creating a PV and a PVH guest"):
        pv = lab.create_guest("plainpv", "pv")
        pvh = lab.create_guest("plainpvh", "pvh")
    step("both run at once and answer commands")
    for guest, word in ((pv, "pv"), (pvh, "pvh")):
        expect_equal(lab.check(f"xenstore-read /libxl/{guest.domid}/type"), word, f"type of {guest.name}")
        expect_equal(guest.sh("echo hello; exit 3"), (3, "hello\n"), f"a command in {guest.name}")
        guest.check("[ ! -e /dev/tpm0 ] && grep -q xen_tpmfront /proc/modules && tpm2_pcrread --version")
    noise = "i=0; while [ $i -lt 200 ]; do echo $i; echo noise $i >/dev/kmsg; i=$((i + 1)); done"
    step("an answer that the kernel's own messages cut in pieces arrives whole")
    expect_equal(pv.check(noise), "\n".join(map(str, range(200))), "the output among kernel messages")
    step("a guest can restart itself, and shut down; its console's log is there to the end")
    first = pv.domid
    pv.sh("reboot")
    pv.wait_restarted()
    expect(pv.domid > first, "the restarted guest has its old domain id")
    pvh.shutdown()
    expect_in("reboot: System halted", pvh.console_log(), "the console of a guest that shut down")


def _check_power_cut(lab: Lab) -> None:
    step("a power cut: what was synced is there, what was not is lost")
    lab.check("echo kept >/root/synced && sync -f /root/synced")
    lab.check("echo never >/root/unsynced")
    lab.power_cut()
    with timed("booting after the power cut"):
        lab.boot()
    expect_equal(lab.check("cat /root/synced"), "kept", "the file that was synced")
    expect_equal(lab.sh("cat /root/unsynced").out.count("never"), 0, "lines of the file that was not synced")
