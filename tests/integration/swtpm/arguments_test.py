"""What `vtpmctl qemu` prints: that QEMU takes it as it stands, and gets the TPM of which it was asked. As root."""

import ast
import ctypes
import json
import shlex
import shutil
import socket
import subprocess
import unittest
from pathlib import Path

import front as f
import rig

CLONE_NEWNS = 0x20000
QEMU = shutil.which("qemu-system-x86_64")
SOCKETS = Path("/run/xen-vtpm/swtpm")


class Printed(f.FrontTest):
    def printed(self, name):
        """(the service, QEMU's arguments, those in the line for xl), as a person copies them."""
        paragraphs = [part.strip() for part in self.ctl("qemu", name).split("\n\n")]
        self.assertEqual(len(paragraphs), 6, paragraphs)
        _, service, to_qemu, arguments, to_xl, xl = paragraphs
        self.assertIn("QEMU", to_qemu)
        self.assertIn("HVM", to_xl)
        key, _, values = xl.partition(" = ")
        self.assertEqual(key, "device_model_args_hvm")
        return service, shlex.split(arguments), ast.literal_eval(values)


class Arguments(Printed):
    def test_a_person_and_a_program_get_the_same(self):
        longest = "a-._0Z" + "y" * 58
        for name, tpm, device in (("win1", "2.0", "tpm-crb"), ("old", "1.2", "tpm-tis"), (longest, "2.0", "tpm-crb")):
            with self.subTest(name=name):
                self.create(name, "--tpm", tpm)
                path = f"{SOCKETS}/{name}.sock"
                expected = ["-chardev", f"socket,id=vtpmctrl,path={path}", "-tpmdev", "emulator,id=vtpm0,chardev=vtpmctrl",
                            "-device", f"{device},tpmdev=vtpm0"]
                service, arguments, xl = self.printed(name)
                self.assertEqual(service, f"systemctl enable --now vtpm-swtpm@{name}.service")
                self.assertEqual((arguments, xl), (expected, expected))
                self.assertEqual(self.json("qemu", name),
                                 {"unit": f"vtpm-swtpm@{name}.service", "socket": path, "arguments": expected})
                self.assertLess(len(path), 108, "no socket has such a path")

    def test_whatever_names_it(self):
        """The service and its socket are called after the TPM, however it was named here."""
        uuid = str(self.create("win1"))
        for which in (uuid, uuid[:8]):
            self.assertEqual(self.json("qemu", which), self.json("qemu", "win1"))

    def test_one_that_is_not_there(self):
        self.create("win1")
        for which in ("win2", "11111111-2222-4333-8444-555555555555", "/win1"):
            self.assertIn("no instance", self.ctl("qemu", which, code=rig.NOT_FOUND))
        self.ctl("qemu", code=rig.BAD_COMMAND)


@unittest.skipUnless(QEMU, "no qemu-system-x86_64 here")
class TakenByQemu(Printed):
    """Without a guest: QEMU has reached the TPM and asked for its version before -S lets it wait."""

    @classmethod
    def setUpClass(cls):
        # The place that is printed is this test's alone.
        if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        SOCKETS.parent.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", SOCKETS.parent], check=True)
        SOCKETS.mkdir()

    def serve(self, name):
        """As the service does, which is told nothing but the name."""
        with (self.directory / "front.log").open("ab") as log:
            process = subprocess.Popen([rig.PROGRAMS / "vtpm-swtpm", "--manager", self.manager.socket, "--engine",
                                        rig.PROGRAMS / "vtpm-swtpm-engine", "--stay", "--", name],
                                       stdout=log, stderr=log, env=f.environment())
        self.addCleanup(process.wait)
        self.addCleanup(process.terminate)
        rig.eventually(lambda: process.poll() is not None or rig.somebody_listens(f"{SOCKETS}/{name}.sock"))

    def qemu(self, arguments):
        """A machine that stands still, and its monitor."""
        ours, theirs = socket.socketpair()
        ours.settimeout(60)
        self.addCleanup(ours.close)
        log = self.directory / "qemu.log"
        with log.open("ab") as out:
            process = subprocess.Popen([QEMU, "-accel", "tcg", "-M", "q35", "-nodefaults", "-display", "none", "-S", "-chardev",
                                        f"socket,id=monitor,fd={theirs.fileno()}", "-mon", "chardev=monitor,mode=control",
                                        *arguments], stdout=out, stderr=out, pass_fds=[theirs.fileno()])
        theirs.close()
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        monitor = ours.makefile("rw")
        self.addCleanup(monitor.close)
        self.assertIn("QMP", monitor.readline(), log.read_text())
        return monitor

    def ask(self, monitor, command):
        monitor.write(json.dumps({"execute": command}) + "\n")
        monitor.flush()
        while True:
            answer = json.loads(monitor.readline())
            self.assertNotIn("error", answer)
            if "return" in answer:
                return answer["return"]

    def test_qemu_takes_them(self):
        for name, tpm, device in (("win-1.a", "2.0", "tpm-crb"), ("old", "1.2", "tpm-tis")):
            self.create(name, "--tpm", tpm)
            self.serve(name)
            _, arguments, xl = self.printed(name)
            for words in (arguments, xl):
                with self.subTest(name=name):
                    monitor = self.qemu(words)
                    self.ask(monitor, "qmp_capabilities")
                    device_there, = self.ask(monitor, "query-tpm")
                    self.assertEqual((device_there["model"], device_there["options"]["type"]), (device, "emulator"))
                    self.assertEqual(self.json("show", name)["in_use"], True)
                    self.ask(monitor, "quit")
                    rig.eventually(lambda name=name: not self.json("show", name)["in_use"])


if __name__ == "__main__":
    unittest.main()
