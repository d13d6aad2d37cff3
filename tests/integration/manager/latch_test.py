"""The boot latch and the descriptor store: who has the keys after the first start of a boot.

The test plays systemd's part: it keeps what the manager puts into the descriptor store
(sd_notify(3), FDSTORE=1) and passes it on at the next start (sd_listen_fds(3)).
"""

import array
import fcntl
import os
import socket
import subprocess
import threading
import unittest

import rig

F_GET_SEALS = 1034
ALL_SEALS = 0x1 | 0x2 | 0x4 | 0x8


class Store:
    """systemd's side of the notification socket."""

    def __init__(self, path):
        self.path = path
        self.kept = {}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.settled = threading.Event()
        self.thread.start()

    def serve(self):
        while True:
            try:
                text, control, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(16))
            except OSError:
                return
            if not text:
                return
            if text == b"SETTLED=1":
                self.settled.set()
            passed = []
            for _, kind, data in control:
                if kind == socket.SCM_RIGHTS:
                    passed += array.array("i", data).tolist()
            words = dict(line.split("=", 1) for line in text.decode().splitlines())
            if words.get("FDSTORE") == "1":
                self.kept[words["FDNAME"]] = passed.pop()
            if words.get("FDSTOREREMOVE") == "1":
                os.close(self.kept.pop(words["FDNAME"]))
            for fd in passed:
                os.close(fd)  # of a BARRIER=1: the sender waits for it

    def say(self, text):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(text, str(self.path))

    def close(self):
        self.say(b"")
        self.thread.join()
        self.socket.close()
        for fd in self.kept.values():
            os.close(fd)

    def launcher(self):
        """A command that runs the rest of its line as systemd would, with what is kept here."""
        self.say(b"SETTLED=1")  # behind all that a killed manager has sent
        self.settled.wait(10)
        self.settled.clear()
        names = ":".join(self.kept)
        shell = f"export NOTIFY_SOCKET={self.path}; "
        for place, fd in enumerate(self.kept.values()):
            shell += f"exec {3 + place}</proc/{os.getpid()}/fd/{fd}; "
        if self.kept:
            shell += f"export LISTEN_PID=$$ LISTEN_FDS={len(self.kept)} LISTEN_FDNAMES={names}; "
        return ["/bin/sh", "-c", shell + 'exec "$@"', "sh", rig.PROGRAMS / "vtpmmgrd"]


class Latch(rig.RigTest):
    ready = False

    def setUp(self):
        super().setUp()
        self.key = self.directory / "recovery"
        self.store = Store(self.directory / "notify")
        self.addCleanup(self.store.close)
        self.manager.stop()
        self.start()
        self.ctl("setup", "--recovery-out", self.key)

    def start(self):
        self.manager.start(self.store.launcher())

    def forget(self):
        """As `systemctl stop`: the store is emptied."""
        for name in list(self.store.kept):
            os.close(self.store.kept.pop(name))

    def latch(self):
        return self.json("status")["boot_latch"]

    def test_a_crash_and_a_restart_keep_the_keys(self):
        self.assertEqual(self.latch(), "closed")
        self.assertEqual(len(self.store.kept), 1)
        for fd in self.store.kept.values():
            self.assertEqual(fcntl.fcntl(fd, F_GET_SEALS), ALL_SEALS)
        self.ctl("create", "--name", "web1")
        for end in (self.manager.kill, self.manager.stop, self.manager.kill):
            end()
            self.start()
            self.assertEqual(self.json("status")["state"], "open", self.manager.text())
            self.assertEqual(self.latch(), "closed")
            self.assertEqual(len(self.store.kept), 1)
        self.ctl("show", "web1")

    def test_whoever_comes_without_them_gets_none(self):
        self.manager.stop()
        self.forget()
        self.start()
        status = self.json("status")
        self.assertEqual(status["state"], "locked")
        self.assertEqual(status["reason"]["code"], "latched")
        self.ctl("create", "--name", "web1", code=rig.LOCKED)
        self.assertEqual(self.store.kept, {})
        # Not even with the manager's own program and files: the chip has closed the latch.
        self.manager.stop()
        self.manager.start()
        self.assertEqual(self.json("status")["state"], "locked")
        self.manager.stop()
        self.start()
        self.ctl("unlock", "--recovery-key", self.key)
        self.assertEqual(self.json("status")["state"], "open")
        self.ctl("create", "--name", "web1")
        self.manager.kill()
        self.start()
        self.ctl("show", "web1")

    def test_the_next_boot_has_them_again(self):
        self.manager.stop()
        self.forget()
        self.chip.stop()
        self.chip.start()
        self.start()
        self.assertEqual(self.json("status")["state"], "open")
        self.assertEqual(self.latch(), "closed")

    def test_a_new_group_s_key_is_kept_too(self):
        self.ctl("group", "create", "tenant")
        self.ctl("create", "--name", "web1", "--group", "tenant")
        self.manager.kill()
        self.start()
        self.assertTrue(all(g["state"] == "open" for g in self.json("group", "list")))
        self.ctl("group", "close", "tenant")
        self.manager.kill()
        self.start()
        opened = {g["name"]: g["state"] == "open" for g in self.json("group", "list")}
        self.assertEqual(opened, {"default": True, "tenant": False})
        # The chip does not give it before the next boot.
        self.ctl("group", "open", "tenant", code=rig.LOCKED)

    def test_new_keys_and_a_new_latch(self):
        self.ctl("create", "--name", "web1")
        for words in (("rotate", "--root"), ("rotate", "--group", "default")):
            self.ctl(*words)
            self.assertEqual(self.latch(), "closed")
            self.assertEqual(len(self.store.kept), 1)
            self.manager.kill()
            self.start()
            self.assertEqual(self.json("status")["state"], "open", self.manager.text())
            self.ctl("show", "web1")
        self.manager.stop()
        self.forget()
        self.start()
        self.assertEqual(self.json("status")["state"], "locked")

    def test_keys_that_systemd_does_not_take_are_told_of(self):
        self.store.path = self.store.path.rename(self.directory / "elsewhere")
        done = subprocess.run([rig.VTPMCTL, "--socket", self.manager.socket, "rotate", "--root"],
                              capture_output=True, text=True, timeout=90, check=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("warning", done.stderr)
        self.assertIn("systemd", done.stderr)
        # The new latch is open, so that nothing is lost.
        self.assertEqual(self.latch(), "open")
        self.manager.kill()
        self.start()
        self.assertEqual(self.json("status")["state"], "open", self.manager.text())

    def test_what_the_store_gives_back_is_checked(self):
        self.manager.stop()
        self.forget()
        read, write = os.pipe()
        os.write(write, b"nonsense")
        os.close(write)
        self.store.kept["xen-vtpm-keys-9"] = read
        self.chip.stop()
        self.chip.start()
        self.start()
        self.assertEqual(self.json("status")["state"], "open")

    def test_the_settings_leave_it_open(self):
        self.manager.stop()
        self.forget()
        self.chip.stop()
        self.chip.start()
        self.manager.settings["boot_latch"] = False
        self.start()
        self.assertEqual(self.latch(), "open")
        self.assertEqual(self.store.kept, {})
        self.manager.stop()
        self.start()
        self.assertEqual(self.json("status")["state"], "open")


if __name__ == "__main__":
    unittest.main(verbosity=2)
