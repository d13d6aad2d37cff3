"""vtpmmgrd as a process: how it starts and ends, what it leaves, what nobody may see of it."""

import os
import shutil
import signal
import socket
import subprocess
import unittest

import frames
import rig

NOBODY = 65534


class Process(rig.RigTest):
    def proc(self, name):
        return rig.Path("/proc") / str(self.manager.process.pid) / name

    def status(self):
        return dict(line.split(":\t", 1) for line in self.proc("status").read_text().splitlines())

    def test_it_ends_in_order(self):
        for ending in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(ending):
                which = self.create(f"end{int(ending)}")
                engine = self.attach(self.hold(which))
                self.assertEqual(engine.commit(0, (frames.PERMANENT, b"p")), 1)
                half = self.connect()
                half.raw(frames.frame(frames.status())[:5])
                self.assertLessEqual(set(self.files()),
                                     {"vault.db", "vault.db-wal", "vault.db-shm", "set-up"})
                self.manager.process.send_signal(ending)
                self.assertEqual(self.manager.process.wait(10), 0, self.manager.text())
                self.assertEqual(set(self.files()), {"vault.db", "set-up"})
                self.manager.start()
                loaded = self.attach(self.hold(which)).load()
                self.assertEqual(loaded.blobs, {frames.PERMANENT: b"p"})

    def test_files_are_private(self):
        self.create("web1")
        self.assertEqual(self.manager.state.stat().st_mode & 0o7777, 0o700)
        for path in self.manager.state.iterdir():
            self.assertEqual(path.stat().st_mode & 0o7777, 0o600, path)
        self.assertEqual(self.manager.socket.stat().st_mode & 0o7777, 0o600)

    @unittest.skipIf(rig.SANITIZED, "a sanitizer's mlockall() locks nothing")
    def test_memory_is_locked_and_never_dumped(self):
        status = self.status()
        self.assertGreater(int(status["VmLck"].split()[0]), 0)
        self.assertEqual(int(status["VmSwap"].split()[0]), 0)
        self.assertEqual(status["NoNewPrivs"], "1")
        limit = next(line.split() for line in self.proc("limits").read_text().splitlines()
                     if line.startswith("Max core file size"))
        self.assertEqual(limit[4:6], ["0", "0"])

    @unittest.skipIf(os.geteuid() != 0, "only root can become somebody else")
    def test_its_own_user_cannot_look_into_it(self):
        # Of a process that may not be dumped /proc belongs to root (proc(5)).
        self.assertEqual(self.manager.stop(), 0)
        program = shutil.copy(rig.PROGRAMS / "vtpmmgrd", self.directory)
        self.directory.chmod(0o711)
        theirs = self.directory / "theirs"
        theirs.mkdir()
        shutil.chown(theirs, NOBODY, NOBODY)
        theirs.chmod(0o700)
        manager = rig.Manager(theirs, self.chip)
        # The right to lock memory is what LimitMEMLOCK gives it in its unit.
        manager.start(["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                       "--inh-caps=+ipc_lock", "--ambient-caps=+ipc_lock", program])
        self.addCleanup(manager.kill)
        self.manager = manager
        self.assertEqual(self.status()["Uid"].split()[0], str(NOBODY))
        self.assertEqual(self.proc("environ").stat().st_uid, 0)
        look = subprocess.run(["cat", self.proc("maps")], user=NOBODY, group=NOBODY,
                              extra_groups=[], capture_output=True, text=True, check=False)
        self.assertNotEqual(look.returncode, 0)
        self.assertIn("Permission denied", look.stderr)

    def test_two_managers_on_one_directory(self):
        which = self.create("web1")
        second = rig.Manager(self.directory, self.chip)
        second.config = self.directory / "second.toml"
        second.log = self.directory / "second.log"
        second.socket = self.directory / "second"
        second.settings["socket"] = str(second.socket)
        second.start()
        self.addCleanup(second.kill)
        first, self.manager = self.manager, second
        status = self.json("status")
        self.assertEqual(status["state"], "locked")
        self.assertIn("reason", status)
        self.ctl("create", "--name", "web2", code=rig.LOCKED)
        self.manager = first
        self.assertEqual(self.attach(self.hold(which)).commit(0, (frames.PERMANENT, b"p")), 1)
        self.assertEqual(self.json("status")["state"], "open")

    def test_a_socket_from_systemd(self):
        # sd_listen_fds(3): the socket is descriptor 3, and the pid has to be the right one.
        self.assertEqual(self.manager.stop(), 0)
        path = self.directory / "activated"
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(path))
            listening.listen()
            start = ('exec 3<&"$1"; LISTEN_PID=$$ LISTEN_FDS=1 exec "$2" --config "$3"')
            with self.manager.log.open("ab") as log:
                self.manager.process = subprocess.Popen(
                    ["bash", "-c", start, "start", str(listening.fileno()),
                     rig.PROGRAMS / "vtpmmgrd", self.manager.config],
                    pass_fds=[listening.fileno()], stdout=log, stderr=log)
            self.manager.socket, own = path, self.manager.socket
            self.assertEqual(self.json("status")["state"], "open")
            self.assertEqual(self.manager.stop(), 0)
            self.assertFalse(rig.somebody_listens(own))
        self.assertTrue(path.exists(), "the socket is systemd's")

    def test_it_says_what_it_is_asked(self):
        for option, said in (("--version", r"^\d+\.\d+\.\d+$"), ("--help", "--config")):
            run = subprocess.run([rig.PROGRAMS / "vtpmmgrd", option], capture_output=True,
                                 text=True, timeout=20, check=True)
            self.assertRegex(run.stdout.strip(), said)
        run = subprocess.run([rig.PROGRAMS / "vtpmmgrd", "--wrong"], capture_output=True,
                             timeout=20, check=False)
        self.assertNotEqual(run.returncode, 0)


if __name__ == "__main__":
    unittest.main()
