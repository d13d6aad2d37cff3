"""swtpm's own command line, and swtpm_setup's: what libvirt and scripts call."""

import json
import os
import signal
import socket
import subprocess
import unittest
from pathlib import Path

import front as f
import rig

SETUP = Path(__file__).resolve().parents[3] / "config/vtpm-swtpm-setup"


class CommandLine(f.FrontTest):
    def setUp(self):
        super().setUp()
        # As in the package: the program under swtpm's name.
        self.program = self.directory / "swtpm"
        self.program.symlink_to(rig.PROGRAMS / "vtpm-swtpm")
        self.state = self.directory / "swtpm-state"
        self.state.mkdir()
        self.control_path = self.directory / "ctrl"
        self.own = f"manager={self.manager.socket},engine={rig.PROGRAMS}/vtpm-swtpm-engine,run-dir={self.directory}"

    def set_up(self, *options, code=0):
        """swtpm_setup for the state directory; what it said."""
        environment = os.environ | {"PATH": f"{rig.PROGRAMS}:{os.environ['PATH']}", "XEN_VTPM_SOCKET": str(self.manager.socket)}
        done = subprocess.run([SETUP, "--tpmstate", self.state, *options], env=environment, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout

    def arguments(self, *options):
        return [self.program, "socket", "--tpmstate", f"dir={self.state}", "--xen-vtpm", self.own, *options]

    def start(self, *options, tpm="--tpm2", **more):
        """A process whose control socket is there."""
        process = subprocess.Popen(self.arguments("--ctrl", f"type=unixio,path={self.control_path},mode=0600", tpm, *options),
                                   env=f.environment(), stderr=subprocess.PIPE, **more)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        rig.eventually(lambda: process.poll() is not None or rig.somebody_listens(self.control_path))
        self.assertIsNone(process.poll(), "it ended")
        return process

    def refused(self, *options):
        done = subprocess.run(self.arguments(*options), env=f.environment(), text=True, check=False, timeout=f.PATIENCE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def peer(self):
        peer = f.Control(self.control_path)
        self.addCleanup(peer.close)
        return peer

    def data_of(self, control):
        data = control.data()
        self.addCleanup(data.close)
        return data

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

    def test_one_tpm_a_directory(self):
        self.set_up("--tpm2")
        self.assertIn("has a TPM already", self.set_up("--tpm2", code=1))
        self.set_up("--tpm2", "--not-overwrite")
        self.assertIn("vtpmctl delete", self.set_up("--tpm2", "--overwrite", code=1))
        self.set_up("--tpm2", "--overwrite", "--not-overwrite")  # as with swtpm: what is there stays
        self.assertEqual(len(self.json("list")), 1)
        self.set_up()  # a TPM 1.2 has a file of its own
        self.assertEqual(len(self.json("list")), 2)

    def test_overwrite_where_nothing_is(self):
        """What libvirt calls for a domain that comes with its state, into a directory that it has just made."""
        log = self.directory / "setup.log"
        incoming = ("--tpm2", "--tpm-state", self.state, "--logfile", log, "--overwrite")
        self.assertEqual(self.set_up(*incoming), "")
        one, = self.json("list")
        self.assertEqual((self.state / "tpm2-00.permall").read_text(), f"xen-vtpm-instance {one['uuid']}\n")
        self.assertIn("is in the vault", log.read_text())
        self.assertEqual(self.set_up(*incoming, code=1), "")
        self.assertIn(f"--overwrite would destroy: that is done with vtpmctl delete {one['uuid']}", log.read_text())
        self.assertEqual(self.json("list"), [one])
        # One that was being made is not one that is there.
        (self.state / "tpm2-00.permall").rename(self.state / ".tpm2-00.permall.pending")
        self.set_up(*incoming)
        self.assertEqual(self.json("list"), [one])
        foreign = self.directory / "swtpms"
        foreign.mkdir()
        (foreign / "tpm2-00.permall").write_bytes(bytes(1386))
        self.assertIn("import-swtpm", self.set_up("--tpm2", "--tpmstate", foreign, "--overwrite", code=1))
        self.assertEqual((foreign / "tpm2-00.permall").read_bytes(), bytes(1386))

    def test_refusals_are_in_the_log(self):
        """libvirt shows its user the name of that file, and nothing else of what went wrong."""
        self.set_up("--tpm2")
        self.manager.stop()
        nowhere = self.directory / "nowhere"
        last = self.directory / "last.log"
        for number, (options, said) in enumerate((
                (("--no-such", "--logfile", "LOG"), "--no-such is not served"),
                (("--logfile", "LOG", "--no-such"), "--no-such is not served"),
                (("--no-such", "--nor-this", "--logfile=LOG"), "--no-such is not served"),
                (("--create-config-files=root", "--logfile", "LOG"), "--create-config-files is not served"),
                (("--logfile", "LOG", "--vmid"), "--vmid: what?"),
                (("--tpmstate", nowhere, "--logfile", "LOG"), "no such directory"),
                (("--tpm2", "--overwrite", "--logfile", "LOG"), "cannot be had from the vault"),
                (("--logfile", last, "--logfile", "LOG", "--no-such"), "--no-such is not served"))):
            with self.subTest(options=options):
                log = self.directory / f"{number}.log"
                words = [str(log) if word == "LOG" else str(word).replace("=LOG", f"={log}") for word in options]
                self.assertEqual(self.set_up(*words, code=1), "")
                self.assertIn(said, log.read_text())
        self.assertFalse(last.exists())

    def test_an_interrupted_setup_is_made_good(self):
        self.set_up("--tpm2")
        # Killed before the last step, and before the one that made the TPM.
        pending = self.state / ".tpm2-00.permall.pending"
        (self.state / "tpm2-00.permall").rename(pending)
        self.set_up("--tpm2")
        self.assertEqual(len(self.json("list")), 1)
        pending.write_bytes((self.state / "tpm2-00.permall").read_bytes())
        self.set_up("--tpm2", "--not-overwrite")
        self.assertFalse(pending.exists())
        uuid = "99999999-8888-4777-8666-555555555555"
        (self.state / "tpm2-00.permall").unlink()
        pending.write_text(f"xen-vtpm-instance {uuid}\n")
        self.set_up("--tpm2")
        self.assertIn(uuid, [row["uuid"] for row in self.json("list")])

    def test_a_tpm_that_is_gone_is_not_made_anew(self):
        self.set_up("--tpm2")
        self.ctl("delete", self.json("list")[0]["uuid"], "--yes")
        self.set_up("--tpm2", "--not-overwrite", code=1)
        self.assertEqual(self.json("list"), [])
        self.assertIn("cannot start", self.refused("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2"))

    def test_unreadable_is_not_new(self):
        """A disk that is not mounted, say."""
        self.set_up("--tpm2")
        own = self.state / "tpm2-00.permall"
        own.rename(self.directory / "elsewhere")
        own.symlink_to(self.directory / "not-mounted")
        self.assertIn("leads nowhere", self.set_up("--tpm2", "--not-overwrite", code=1))
        self.assertEqual(len(self.json("list")), 1)
        self.refused("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2")

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

    def test_names_of_domains(self):
        for number, (vm, shown) in enumerate((("web 1", "web-1-"), ("Überwachung", "berwachung-"), ("..x", "x-"), ("日本", ""))):
            state = self.directory / f"named{number}"
            state.mkdir()
            self.set_up("--tpm2", "--tpmstate", state, "--vmid", f"{vm}:1")
            self.assertIn(True, [row["name"].startswith(shown) for row in self.json("list")])
        self.assertEqual(len(self.json("list")), 4)

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


if __name__ == "__main__":
    unittest.main()
