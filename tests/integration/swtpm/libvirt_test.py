"""Debian's libvirt, told where our swtpm is: a domain with a <tpm> of type emulator, started, reset and stopped.

The guest is qemu_test.py's, in software emulation: minutes, so `long`. As root.
"""

import ctypes
import os
import shutil
import subprocess
import sys
import unittest
from pathlib import Path

import front as f
import qemu_test
import rig

SETUP = Path(__file__).resolve().parents[3] / "config/vtpm-swtpm-setup"
UUID = "11111111-2222-4333-8444-555555555555"
# As README.md says; the rest is for a machine without an init.
QEMU_CONF = """swtpm_user = "root"
swtpm_group = "root"
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
remember_owner = 0
"""
PACKAGES = ["libvirt-daemon-system", "libvirt-daemon-driver-qemu", "libvirt-clients",
            "swtpm-tools", "qemu-system-x86"]
CLONE_NEWNS = 0x20000
BANKS = {"1.2": "", "2.0": "<active_pcr_banks><sha256/><sha384/></active_pcr_banks>"}


def domain(image, serial, model, version):
    return f"""<domain type='qemu'><name>web1</name><uuid>{UUID}</uuid><memory unit='MiB'>256</memory>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{image[0]}</kernel><initrd>{image[1]}</initrd>
<cmdline>console=ttyS0 quiet panic=-1 tsc=unstable</cmdline></os><features><acpi/></features>
<devices><emulator>/usr/bin/qemu-system-x86_64</emulator>
<serial type='unix'><source mode='bind' path='{serial}'/></serial><memballoon model='none'/>
<tpm model='{model}'><backend type='emulator' version='{version}'>{BANKS[version]}</backend></tpm></devices></domain>"""


class Libvirt(f.FrontTest):
    @classmethod
    def setUpClass(cls):
        # libvirt's directories are this test's alone.
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        for directory in ("/etc/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt", "/run/libvirt"):
            Path(directory).mkdir(parents=True, exist_ok=True)
            subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
        Path("/etc/libvirt/qemu.conf").write_text(QEMU_CONF, encoding="ascii")

    def setUp(self):
        super().setUp()
        self.image = qemu_test.guest_image(self.directory)
        self.serial = self.directory / "serial"
        self._put_programs()
        self.log = self.directory / "libvirtd.log"
        with self.log.open("ab") as log:
            self.libvirtd = subprocess.Popen(["libvirtd"], stdout=log, stderr=log,
                                             env=os.environ | {"PATH": f"{self.directory}/bin:{os.environ['PATH']}"})
        self.addCleanup(self._end)
        rig.eventually(lambda: subprocess.run(["virsh", "version"], capture_output=True, check=False).returncode == 0, 60)

    def _put_programs(self):
        """What the package has in its directory, for a manager that is not in its usual place."""
        programs = self.directory / "bin"
        programs.mkdir()
        (programs / "real").mkdir()
        (programs / "real/swtpm").symlink_to(rig.PROGRAMS / "vtpm-swtpm")
        own = f"manager={self.manager.socket},engine={rig.PROGRAMS}/vtpm-swtpm-engine,run-dir={self.directory}"
        unlocked = f.environment().get("LD_PRELOAD", "")
        self._script(programs / "swtpm", f'export LD_PRELOAD={unlocked}\ncase " $* " in *" --tpmstate "*) set -- "$@" --xen-vtpm {own} ;; esac\n'
                                         f'exec {programs}/real/swtpm "$@"')
        self._script(programs / "vtpm-swtpm", f'export LD_PRELOAD={unlocked}\nexec {rig.PROGRAMS}/vtpm-swtpm "$@" '
                                              f'--engine {rig.PROGRAMS}/vtpm-swtpm-engine --run-dir {self.directory}')
        self._script(programs / "swtpm_setup", f'XEN_VTPM_SOCKET={self.manager.socket} PATH={programs}:{rig.PROGRAMS}:$PATH '
                                               f'exec {SETUP} "$@"')

    @staticmethod
    def _script(path, text):
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="ascii")
        path.chmod(0o755)

    def _end(self):
        self.virsh("destroy", "web1", check=False)
        self.libvirtd.terminate()  # it leaves domains and their TPMs alone
        self.libvirtd.wait(60)

    def virsh(self, *words, check=True):
        done = subprocess.run(["virsh", *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if check:
            self.assertEqual(done.returncode, 0, f"{done.stdout}\n{self.log.read_text()[-3000:]}\n{self._tpm_logs()}")
        return done.stdout

    @staticmethod
    def _tpm_logs():
        return "".join(path.read_text(errors="replace")[-2000:] for path in Path("/var/log/swtpm").rglob("*.log"))

    def start(self):
        self.virsh("start", "web1")
        return qemu_test.Console(self.serial)

    def test_a_domain_with_a_tpm(self):
        for model, version in (("tpm-crb", "2.0"), ("tpm-tis", "1.2")):
            with self.subTest(model=model):
                self._life(model, version)

    def _life(self, model, version):
        before = len(self.json("list"))
        xml = self.directory / "web1.xml"
        xml.write_text(domain(self.image, self.serial, model, version), encoding="ascii")
        self.virsh("define", str(xml))
        guest = self.start()
        guest.until(b"READY")
        self.assertEqual(len(self.json("list")), before + 1)
        self.assertEqual(guest.run("cat /sys/class/tpm/tpm0/tpm_version_major"), version[0])
        read = "cat /sys/class/tpm/tpm0/pcr-sha256/16" if version == "2.0" else "grep PCR-16 /sys/class/tpm/tpm0/pcrs"
        if version == "2.0":
            self.assertEqual(guest.run("ls -d /sys/class/tpm/tpm0/pcr-*").split(),
                             [f"/sys/class/tpm/tpm0/pcr-{bank}" for bank in ("sha256", "sha384")])
        zero = guest.run(read)
        extend = qemu_test.EXTEND_16 if version == "2.0" else bytes.fromhex("00c1000000220000001400000010") + b"\x11" * 20
        guest.transmit(extend)
        self.assertNotEqual(guest.run(read), zero)
        self.virsh("reset", "web1")
        guest.until(b"READY")
        self.assertEqual(guest.run(read), zero)
        self.virsh("destroy", "web1")
        guest.close()
        rig.eventually(lambda: all("domain" not in row or not row["domain"] for row in self.json("list")), 60)
        guest = self.start()  # the same TPM
        guest.until(b"READY")
        self.assertEqual(len(self.json("list")), before + 1)
        guest.close()
        self.virsh("destroy", "web1")
        self.virsh("undefine", "web1", "--keep-tpm", check=False)
        self.virsh("undefine", "web1", check=False)
        shutil.rmtree(f"/var/lib/libvirt/swtpm/{UUID}", ignore_errors=True)


if __name__ == "__main__":
    if any(shutil.which(program) is None for program in ("libvirtd", "virsh", "swtpm_ioctl", "qemu-system-x86_64")):
        subprocess.run(["apt-get", "-qq", "update"], check=False)
        done = subprocess.run(["apt-get", "-qqy", "install", "--no-install-recommends", *PACKAGES], check=False,
                              stdout=subprocess.DEVNULL, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
        if done.returncode != 0:
            print("apt does not have libvirt here")
            sys.exit(77)
    unittest.main()
