"""vtpmmgrd's socket in the hands of peers that are slow, broken, impatient or not allowed."""

import os
import random
import shutil
import struct
import subprocess
import time
import unittest
import uuid

import frames
import rig

NOBODY = 65534
GIB = 1 << 30


class Sockets(rig.RigTest):
    def assert_well(self):
        self.assertTrue(self.manager.running(), self.manager.text())
        with self.connect() as peer:
            self.assertIsNone(frames.failure_of(peer.ask(frames.status())))

    def peak_memory(self):
        status = (rig.Path("/proc") / str(self.manager.process.pid) / "status").read_text()
        return next(int(line.split()[1]) for line in status.splitlines()
                    if line.startswith("VmPeak"))

    def test_silence_inside_a_frame(self):
        whole = frames.frame(frames.status(), b"payload")
        cuts = (1, 4, 11, 12, 13, len(whole) - 1)
        peers = [self.connect() for _ in cuts]
        began = time.monotonic()
        for peer, cut in zip(peers, cuts):
            peer.raw(whole[:cut])
        for _ in range(5):
            self.assert_well()  # at once, not when the silent ones are gone
        self.ctl("list")
        self.assertLess(time.monotonic() - began, 5)
        for peer, cut in zip(peers, cuts):
            with self.subTest(cut=cut):
                self.assert_closed(peer)
        self.assertGreater(time.monotonic() - began, 5)
        self.assertLess(time.monotonic() - began, 15)

    def test_slow_but_whole(self):
        peer = self.connect()
        for byte in frames.frame(frames.status()):
            peer.raw(bytes([byte]))
            time.sleep(0.02)
        self.assertIsNone(frames.failure_of(peer.receive()))

    def test_sizes_beyond_the_limits(self):
        before = self.peak_memory()
        for sizes in ((GIB, 0), (0, GIB), (GIB, GIB), (2**32 - 1, 2**32 - 1),
                      (1 << 22, 0), (0, 1 << 22)):
            with self.subTest(sizes=sizes), self.connect() as peer:
                peer.raw(struct.pack(">III", frames.MAGIC, *sizes))
                self.assert_closed(peer)
        self.assertLess(self.peak_memory() - before, 100 * 1024, "kB")
        self.assert_well()

    def test_large_sizes(self):
        with self.connect() as peer:
            self.assert_failure(peer.ask(b"\xff" * (256 * 1024)), "malformed")
            self.assertIsNone(frames.failure_of(peer.ask(frames.status(), bytes(1024 * 1024))))

    def test_garbage(self):
        generator = random.Random(20)
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", bytes(4096), generator.randbytes(4096),
                        struct.pack("<III", frames.MAGIC, 4, 0) + b"abcd"):
            with self.subTest(garbage=garbage[:16]), self.connect() as peer:
                peer.raw(garbage)
                self.assert_closed(peer)
        # A frame of garbage is answered; the stream is still in step.
        with self.connect() as peer:
            for _ in range(200):
                body = generator.randbytes(generator.randrange(1, 200))
                self.assertIn(frames.failure_of(peer.ask(body)).code, ("malformed", "unsupported"))
            self.assertIsNone(frames.failure_of(peer.ask(frames.status())))
        self.assertEqual(self.json("list"), [])

    def test_another_protocol(self):
        with self.connect() as peer:
            for protocol in (0, 1, 2**32 - 1):
                reply = peer.ask(frames.request(frames.CREATE, frames.message((1, "a"), (2, 1)),
                                                protocol))
                failure = self.assert_failure(reply, "unsupported")
                self.assertIn(str(protocol), failure.context)
        self.assertEqual(self.json("list"), [])

    def test_unknown_requests(self):
        with self.connect() as peer:
            self.assert_failure(peer.ask(frames.request(99)), "malformed")
            self.assert_failure(peer.ask(frames.message((1, frames.PROTOCOL))), "malformed")
            self.assert_failure(peer.ask(b""), "unsupported")
            self.assertIsNone(frames.failure_of(peer.ask(frames.status())))

    def test_fields_that_make_no_sense(self):
        with self.connect() as peer:
            for size in (0, 15, 17, 1000):
                self.assert_failure(peer.ask(frames.open_instance(bytes(size))), "malformed")
            for size in (1, 15, 17):
                self.assert_failure(peer.ask(frames.create("a", bytes(size))), "malformed")
            for tpm in (0, 3, 2**32 - 1):
                reply = peer.ask(frames.create("a", tpm=tpm))
                self.assertIsNotNone(frames.failure_of(reply), tpm)
            reply = peer.ask(frames.create("x" * 100_000))
            self.assert_failure(reply, "invalid-argument")
        self.assertEqual(self.json("list"), [])

    def test_requests_out_of_order(self):
        web1, web2 = self.create("web1"), self.create("web2")
        with self.connect() as peer:
            self.assert_failure(peer.attach(), "invalid-argument")
            self.assert_failure(peer.ask(frames.open_instance(uuid.uuid4().bytes)), "not-found")
            self.assertIsNone(frames.failure_of(peer.ask(frames.open_instance(web1.bytes))))
            for which in (web1, web2):
                self.assert_failure(peer.ask(frames.open_instance(which.bytes)),
                                    "invalid-argument")
            self.assertFalse(self.json("show", "web2")["in_use"])
            self.assertEqual(self.attach(peer).commit(0, (frames.PERMANENT, b"web1's")), 1)
        self.assertEqual(self.json("show", "web2")["sequence"], 0)

    def test_requests_in_one_piece(self):
        with self.connect() as peer:
            peer.raw(b"".join(frames.frame(frames.create(f"g{i}")) for i in range(50)))
            for i in range(50):
                made = frames.fields(peer.receive())[3][0]
                self.assertEqual(frames.text(made, 2), f"g{i}")

    def test_a_peer_that_never_listens(self):
        with self.connect() as maker:
            for i in range(300):
                maker.ask(frames.create(f"guest-{i}"))
        deaf = self.connect(patience=1)
        with self.assertRaises(TimeoutError):
            for _ in range(100_000):
                deaf.send(frames.request(frames.LIST))
        self.assert_well()
        deaf.close()
        self.assert_well()

    def test_many_idle_connections(self):
        descriptors = rig.Path("/proc") / str(self.manager.process.pid) / "fd"
        before = len(list(descriptors.iterdir()))
        peers = [self.connect() for _ in range(200)]
        self.create("web1")
        self.assertEqual(len(self.json("list")), 1)
        self.assertIsNone(frames.failure_of(peers[-1].ask(frames.status())))
        self.assertGreaterEqual(len(list(descriptors.iterdir())), 200)
        for peer in peers:
            peer.close()
        # "before" may have counted a connection that vtpmctl had just closed.
        rig.eventually(lambda: len(list(descriptors.iterdir())) <= before)

    @unittest.skipIf(rig.SANITIZED, "the runtime asks by a pipe whether it may look at an object; without one it may not")
    def test_more_connections_than_descriptors(self):
        pid = self.manager.process.pid
        subprocess.run(["prlimit", "--pid", str(pid), "--nofile=64:64"], check=True)
        peers = [self.connect() for _ in range(100)]

        def seconds_used():
            fields = (rig.Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        used, said = seconds_used(), len(self.manager.text())
        time.sleep(2)
        self.assertLess(seconds_used() - used, 0.5, "it spins")
        self.assertLess(len(self.manager.text()) - said, 10_000, "it buries the journal")
        self.assertIsNone(frames.failure_of(peers[0].ask(frames.status())))
        for peer in peers:
            peer.close()
        self.ctl("list")

    @unittest.skipIf(os.geteuid() != 0, "only root can become somebody else")
    def test_a_peer_without_rights(self):
        # Its own copy: the build directory may be closed to others.
        shutil.copy(rig.VTPMCTL, self.directory / "vtpmctl")
        self.directory.chmod(0o711)
        list_it = [self.directory / "vtpmctl", "--socket", self.manager.socket, "list"]
        self.assertEqual(self.manager.socket.stat().st_mode & 0o777, 0o600)
        run = subprocess.run(list_it, user=NOBODY, group=NOBODY, extra_groups=[],
                             capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(run.returncode, rig.REFUSED, run.stderr)
        self.assertIn("run it as root", run.stderr)

        # The mode of the socket is not all that keeps them out.
        self.manager.socket.chmod(0o666)
        self.assertEqual(self.as_nobody(self.ask_for_an_instance), b"closed")
        self.assertIn(f"refused a connection of uid {NOBODY}", self.manager.text())
        self.assertEqual(self.json("list"), [])
        self.assertEqual(self.ask_for_an_instance(), "answered", "root is refused as well")

    def ask_for_an_instance(self):
        try:
            with frames.Peer(self.manager.socket) as peer:
                peer.ask(frames.create("web1"))
            return "answered"
        except (frames.Closed, BrokenPipeError):
            return "closed"

    @staticmethod
    def as_nobody(act):
        """What `act` gives in a process of another user. Its interpreter may be closed to others,
        so it is not started anew."""
        ours, theirs = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                os.write(theirs, act().encode())
            finally:
                os._exit(0)
        os.close(theirs)
        os.waitpid(child, 0)
        with os.fdopen(ours, "rb") as pipe:
            return pipe.read()


if __name__ == "__main__":
    unittest.main()
