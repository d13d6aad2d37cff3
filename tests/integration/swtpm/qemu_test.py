"""Debian's QEMU, a Linux guest with its firmware, and vtpm-swtpm in swtpm's place.

The guest is the lab's Debian kernel and busybox, in software emulation: minutes, so `long`. As root.
"""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path

import front as f

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))
from xenlab import dom0image  # noqa: E402

BOOT_SECONDS = 400
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec 0</dev/ttyS0 1>/dev/ttyS0 2>&1
stty -echo
while :; do
    echo READY
    read -r line && eval "$line"
done
"""
EXTEND_16 = f.pcr_extend(16, b"\x5a" * 32)


def octal(data):
    return "".join(f"\\{byte:03o}" for byte in data)


def guest_image(directory):
    """(kernel, initrd) in this directory."""
    tree = dom0image.debian_tree()
    listing = subprocess.run(["tar", "-tf", tree], capture_output=True, text=True, check=True).stdout
    kernel = next(name for name in listing.split() if re.match(r"\./boot/vmlinuz-", name))
    subprocess.run(["tar", "-xf", tree, "-C", directory, kernel, "./usr/bin/busybox"], check=True)
    root = directory / "root"
    for name in ("bin", "proc", "sys", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy(directory / "usr/bin/busybox", root / "bin/busybox")
    (root / "init").write_text(INIT)
    (root / "init").chmod(0o755)
    names = "\n".join(str(path.relative_to(root)) for path in sorted(root.rglob("*")))
    with (directory / "initrd").open("wb") as out:
        subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=root, input=names.encode(),
                       stdout=out, check=True)
    return directory / kernel, directory / "initrd"


class Console:
    """The guest's shell, on its serial line; `path` is a socket of QEMU's."""

    def __init__(self, path):
        self.text = b""
        self.serial = socket.socket(socket.AF_UNIX)
        self.serial.settimeout(BOOT_SECONDS)
        self.serial.connect(str(path))

    def close(self):
        self.serial.close()

    def until(self, what, seconds=BOOT_SECONDS):
        """What the guest has written up to these bytes."""
        end = time.monotonic() + seconds
        while what not in self.text:
            if time.monotonic() > end:
                raise AssertionError(f"no {what} in {self.text[-2000:]}")
            self.serial.settimeout(max(0.1, end - time.monotonic()))
            piece = self.serial.recv(65536)
            if not piece:
                raise AssertionError(f"QEMU closed: {self.text[-2000:]}")
            self.text += piece
        before, _, self.text = self.text.partition(what)
        return before

    def run(self, line):
        """The output of a line in the guest's shell."""
        self.serial.sendall(line.encode() + b"; echo DO''NE\n")
        said = self.until(b"DONE").decode(errors="replace")
        self.until(b"READY")
        return said.replace("\r", "").strip()

    def pcr(self, number):
        return self.run(f"cat /sys/class/tpm/tpm0/pcr-sha256/{number}")

    def transmit(self, command):
        """A command by way of /dev/tpm0; the code of its response."""
        said = self.run(f"exec 3<>/dev/tpm0; printf '{octal(command)}' >&3; "
                        "dd bs=4096 count=1 <&3 2>/dev/null | hexdump -v -e '1/1 \"%02x\"'; exec 3>&-")
        return said[12:20]


class Machine(Console):
    """A QEMU whose TPM is behind this front."""

    def __init__(self, directory, name, image, front, device, *options):
        self.log = directory / f"{name}.qemu"
        paths = {which: directory / f"{name}.{which}" for which in ("serial", "monitor")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["qemu-system-x86_64", "-accel", "tcg", "-M", "q35", "-m", "256", "-nodefaults", "-display", "none",
                 "-kernel", image[0], "-initrd", image[1], "-append", "console=ttyS0 quiet panic=-1 tsc=unstable",
                 "-serial", f"unix:{paths['serial']},server=on,wait=off",
                 "-qmp", f"unix:{paths['monitor']},server=on,wait=off",
                 "-chardev", f"socket,id=chrtpm,path={front.path}",
                 "-tpmdev", "emulator,id=tpm0,chardev=chrtpm", "-device", f"{device},tpmdev=tpm0", *options],
                stdout=log, stderr=log)
        for path in paths.values():
            f.rig.eventually(lambda path=path: self.process.poll() is not None or f.rig.somebody_listens(path))
        if self.process.poll() is not None:
            raise AssertionError(self.log.read_text() + front.text())
        super().__init__(paths["serial"])
        self.monitor = self._connect(paths["monitor"]).makefile("rw")
        self.monitor.readline()
        self.qmp("qmp_capabilities")

    @staticmethod
    def _connect(path):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(BOOT_SECONDS)
        peer.connect(str(path))
        return peer

    def qmp(self, command, **arguments):
        self.monitor.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.monitor.flush()
        while True:
            answer = json.loads(self.monitor.readline())
            if "error" in answer:
                raise AssertionError(f"{command}: {answer}")
            if "return" in answer:
                return answer["return"]

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Qemu(f.FrontTest):
    @classmethod
    def setUpClass(cls):
        import tempfile
        directory = tempfile.TemporaryDirectory()
        cls.addClassCleanup(directory.cleanup)
        cls.image = guest_image(Path(directory.name))

    def boot(self, name, front, device, *options):
        machine = Machine(self.directory, name, self.image, front, device, *options)
        self.addCleanup(machine.end)
        return machine

    def lives_with(self, device):
        """Driver, firmware's measurements, reset, migration."""
        name = self.create("web1", "--tpm", "2.0")
        front = self.front(name, "source")
        machine = self.boot("source", front, device)
        machine.until(b"READY")
        self.assertEqual(machine.run("cat /sys/class/tpm/tpm0/tpm_version_major"), "2")
        measured = [machine.pcr(number) for number in range(8)]
        self.assertEqual(sum(value.strip("0") != "" for value in measured), 8, measured)
        self.assertEqual(machine.pcr(16).strip("0"), "")
        self.assertEqual(machine.transmit(EXTEND_16), "00000000")
        self.assertNotEqual(machine.pcr(16).strip("0"), "")

        for _ in range(2):
            machine.qmp("system_reset")
            machine.until(b"READY")
        self.assertEqual([machine.pcr(number) for number in range(8)], measured)
        self.assertEqual(machine.pcr(16).strip("0"), "")

        self.assertEqual(machine.transmit(EXTEND_16), "00000000")
        extended = machine.pcr(16)
        other = self.front(name, "destination")
        stream = self.directory / "stream"
        arrived = self.boot("arrived", other, device, "-incoming", f"unix:{stream}")
        machine.qmp("migrate", uri=f"unix:{stream}")
        f.rig.eventually(lambda: machine.qmp("query-migrate").get("status") in ("completed", "failed"), 120)
        self.assertEqual(machine.qmp("query-migrate")["status"], "completed", other.text() + arrived.log.read_text())
        f.rig.eventually(lambda: arrived.qmp("query-status")["status"] == "running", 60)
        machine.qmp("quit")
        machine.process.wait(f.PATIENCE)
        self.assertEqual(front.process.wait(f.PATIENCE), 0, front.text())
        self.assertEqual(arrived.pcr(16), extended)
        self.assertEqual([arrived.pcr(number) for number in range(8)], measured)
        self.assertEqual(arrived.transmit(EXTEND_16), "00000000")
        self.assertNotEqual(arrived.pcr(16), extended)

    def test_tis(self):
        self.lives_with("tpm-tis")

    def test_crb(self):
        self.lives_with("tpm-crb")


if __name__ == "__main__":
    unittest.main()
