"""swtpm's own command line: what libvirt and scripts call."""

import json
import os
import signal
import socket
import subprocess
import unittest

import front as f
import rig
from as_swtpm import SETUP, AsSwtpm


class CommandLine(AsSwtpm):
    def test_as_libvirt_starts_it(self):
        said = self.set_up("--tpm2", "--vmid", "win11:11111111-2222-3333-4444-555555555555", "--logfile",
                           self.directory / "setup.log", "--createek", "--create-ek-cert", "--create-platform-cert",
                           "--lock-nvram", "--not-overwrite", "--pcr-banks", "sha256,sha384")
        self.assertEqual(said, "")
        instance, = self.json("list")
        self.assertRegex(instance["name"], "^win11-[0-9a-f]{8}$")
        pid = self.directory / "pid"
        log = self.directory / "swtpm.log"
        self.start("--log", f"file={log},level=20", "--terminate", "--pid", f"file={pid}", "--flags", "not-need-init")
        self.assertEqual(self.control_path.stat().st_mode & 0o777, 0o600)
        control = self.peer()
        data = self.data_of(control)
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(data.code(f.GET_RANDOM), 0)
        self.assertIn("started", log.read_text())
        self.assertGreater(int(pid.read_text()), 1)
        self.assertEqual(control.ask(f.SHUTDOWN), f.SUCCESS)
        rig.eventually(lambda: not self.control_path.exists())

    def test_whose_directory_it_is(self):
        """Who can write to it could have any TPM of the vault."""
        self.set_up("--tpm2")
        good = ("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2")
        own = self.state / "tpm2-00.permall"
        for path, mode, uid in ((own, 0o666, 0), (own, 0o644, 1), (self.state, 0o775, 0), (self.state, 0o755, 1)):
            was = path.stat()
            path.chmod(mode)
            os.chown(path, uid, 0)
            self.assertIn("nobody else can write to", self.refused(*good))
            path.chmod(was.st_mode)
            os.chown(path, 0, 0)
        moved = self.directory / "moved"
        own.rename(moved)
        own.symlink_to(moved)
        self.assertIn("nobody else can write to", self.refused(*good))

    def test_no_power_no_process(self):
        """With --flags nobody sends an INIT: so what cannot start is not said to have started."""
        self.set_up("--tpm2")
        good = ("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2")
        (self.state / "tpm2-00.volatilestate").write_bytes(b"no ticket")
        self.assertIn("did not start", self.refused(*good, "--flags", "not-need-init"))
        self.assertFalse(self.control_path.exists())

    def test_init_after_store_volatile_while_the_manager_is_away(self):
        self.set_up("--tpm2")
        self.start("--flags", "startup-clear")
        control = self.peer()
        data = self.data_of(control)
        self.assertEqual(data.code(f.pcr_extend(10, b"\x11" * 32)), 0)
        value = f.pcr_value(data.transmit(f.pcr_read(10)))
        self.assertEqual(control.ask(f.STORE_VOLATILE), f.SUCCESS)
        self.assertEqual(self.manager.stop(), 0)
        self.assertNotEqual(control.init(), f.SUCCESS)
        self.manager.start()
        self.assertEqual(control.init(), f.SUCCESS)
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(10))), value)

    def test_a_state_of_swtpms_is_left_alone(self):
        own = self.state / "tpm2-00.permall"
        own.write_bytes(bytes(1386))
        self.assertIn("import-swtpm", self.set_up("--tpm2", "--not-overwrite", code=1))
        self.assertIn("import-swtpm", self.refused("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2"))
        self.assertEqual(own.read_bytes(), bytes(1386))

    def test_the_data_channel_by_a_path_and_startup_by_a_flag(self):
        self.set_up("--tpm2")
        server = self.directory / "server"
        process = self.start("--server", f"type=unixio,path={server}", "-t", "--flags", "startup-clear")
        with f.Peer(server) as data:
            self.assertEqual(data.code(f.GET_RANDOM), 0)
        self.assertEqual(process.wait(f.PATIENCE), 0, "-t: it ends with the data channel")

    def test_descriptors(self):
        self.set_up("--tpm2")
        ours, theirs = socket.socketpair()
        ours_data, theirs_data = socket.socketpair()
        process = subprocess.Popen(self.arguments("--tpm2", "--ctrl", f"type=unixio,clientfd={theirs.fileno()}", "--fd",
                                                  str(theirs_data.fileno()), "--flags", "startup-clear"),
                                   env=f.environment(), pass_fds=[theirs.fileno(), theirs_data.fileno()])
        self.addCleanup(process.kill)
        theirs.close()
        theirs_data.close()
        data = f.Data(ours_data)
        self.assertEqual(data.code(f.GET_RANDOM), 0)
        ours.sendall(f.struct.pack(">I", f.GET_CAPABILITY))
        self.assertEqual(f.exactly(ours, 8), f.struct.pack(">II", 0, 0x17fff))
        ours.close()
        data.close()
        self.assertEqual(process.wait(f.PATIENCE), 0, "it ends with the control channel that it was given")

    def test_in_the_background(self):
        self.set_up("--tpm2")
        pid = self.directory / "pid"
        done = subprocess.run(self.arguments("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2", "--daemon", "--pid",
                                             f"file={pid}"), env=f.environment(), check=False, timeout=f.PATIENCE,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # whose other end it must not keep
        self.assertEqual(done.returncode, 0)
        number = int(pid.read_text())
        self.addCleanup(os.waitpid, number, 0)
        self.addCleanup(os.kill, number, signal.SIGTERM)
        self.assertEqual(self.peer().words(f.GET_CAPABILITY, 2), (f.SUCCESS, 0x17fff))
        # A second one, whose parent has to say that it did not start.
        self.assertNotEqual(subprocess.run(self.arguments("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2",
                                                          "--daemon"), env=f.environment(), check=False,
                                           stderr=subprocess.DEVNULL, timeout=f.PATIENCE).returncode, 0)

    def test_volatile_state_and_keys(self):
        self.set_up("--tpm2")
        key = self.directory / "key"
        key.write_text("ab" * 32)
        process = self.start("--key", f"file={key},mode=aes-256-cbc,format=hex,remove", "--migration-key", "pwdfd=7",
                             "--flags", "startup-clear", "--locality", "reject-locality-4")
        self.assertFalse(key.exists())
        control = self.peer()
        self.assertEqual(control.words(f.GET_CONFIG, 2), (f.SUCCESS, 3))
        self.assertNotEqual(control.locality(4), f.SUCCESS)
        data = self.data_of(control)
        self.assertEqual(data.code(f.pcr_extend(10, b"\x11" * 32)), 0)
        value = f.pcr_value(data.transmit(f.pcr_read(10)))
        self.assertEqual(control.ask(f.STORE_VOLATILE), f.SUCCESS)
        self.assertTrue((self.state / "tpm2-00.volatilestate").exists())
        self.assertEqual(control.ask(f.SHUTDOWN), f.SUCCESS)
        process.wait(f.PATIENCE)
        self.start("--flags", "not-need-init")
        data = self.data_of(self.peer())
        self.assertEqual(f.pcr_value(data.transmit(f.pcr_read(10))), value)
        self.assertFalse((self.state / "tpm2-00.volatilestate").exists())

    def test_what_is_refused_removes_no_key(self):
        self.set_up("--tpm2")
        key = self.directory / "key"
        key.write_text("ab" * 32)
        self.refused("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2", "--key", f"file={key},remove", "--pid", "nonsense")
        self.assertTrue(key.exists())

    def test_version_of_the_tpm(self):
        self.set_up()
        self.assertIn("vtpm-swtpm-setup --tpmstate", self.refused("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2"))
        text = (self.state / "tpm-00.permall").read_text()
        (self.state / "tpm2-00.permall").write_text(text)
        self.assertIn("is a TPM 1.2", self.refused("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2"))

    def test_nonsense(self):
        self.set_up("--tpm2")
        good = ("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2")
        for options in (("--tpm2",), ("--ctrl", "type=tcp,port=1"), ("--ctrl", "type=unixio"),
                        ("--ctrl", "type=unixio,path=a,fd=3"), ("--ctrl", "type=unixio,fd=-3"),
                        ("--ctrl", "type=unixio,path=a,colour=blue"), (*good, "--flags", "startup-state"),
                        (*good, "--tpmstate", "backend-uri=file://x"), (*good, "--no-such"), (*good, "--fd", "77"),
                        (*good, "--fd", "2"), (*good, "--runas", "nobody"),
                        ("--tpm2", "--ctrl", "type=unixio,clientfd=0", "--fd", "0")):
            self.assertNotIn("Traceback", self.refused(*options))
        self.assertFalse(self.control_path.exists())

    def test_capabilities(self):
        for program, name in ((self.program, "swtpm"), (SETUP, "swtpm_setup")):
            words = [program, "socket"] if name == "swtpm" else [program]
            shown = json.loads(subprocess.run([*words, "--print-capabilities"], check=True, capture_output=True).stdout)
            self.assertEqual(shown["type"], name)
            self.assertLessEqual({"tpm-1.2", "tpm-2.0"}, set(shown["features"]))
        self.assertIn("cmdarg-reconfigure-pcr-banks", shown["features"], "libvirt does nothing without it, silently")


if __name__ == "__main__":
    unittest.main()
