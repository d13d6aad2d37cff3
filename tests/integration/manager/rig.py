"""What the tests of this directory share: a host's chip (swtpm), a real vtpmmgrd, and vtpmctl.

Every test has its own directory, chip and manager. VTPM_DAEMONS names the directory with the built
programs.
"""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
import uuid
from pathlib import Path

import frames

PROGRAMS = Path(os.environ.get("VTPM_DAEMONS",
                               Path(__file__).parents[3] / "build/dev/daemons")).resolve()
VTPMCTL = PROGRAMS / "vtpmctl"

# What a manager of a sanitizers' build says when something is found in it.
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error: ")
SANITIZED = bool(os.environ.get("VTPM_SANITIZED"))
# vtpmctl(8), EXIT STATUS.
DONE, REFUSED, BAD_COMMAND, NO_MANAGER, LOCKED, NOT_FOUND, IN_USE = range(7)


def eventually(what, seconds=10.0):
    """The first true answer of `what`, asked again and again."""
    end = time.monotonic() + seconds
    while True:
        answer = what()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s")
        time.sleep(0.02)


def somebody_listens(path):
    """Without connecting: a connection is something that a server may count."""
    with open("/proc/net/unix", encoding="utf-8") as table:
        return any(line.split()[3] == "00010000" and line.rstrip().endswith(f" {path}")
                   for line in table.readlines()[1:])


class Chip:
    """A software TPM 2.0 in the host's place."""

    options = ("--tpm2",)

    def __init__(self, directory, state):
        self.socket = directory / "chip"
        self.state = directory / state
        self.state.mkdir(exist_ok=True)
        self.process = None

    @property
    def tcti(self):
        return f"swtpm:path={self.socket}"

    def start(self):
        if self.process and self.process.poll() is None:
            return
        control = Path(f"{self.socket}.ctrl")
        for path in (self.socket, control):
            path.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            ["swtpm", "socket", *self.options, "--tpmstate", f"dir={self.state}", "--server",
             f"type=unixio,path={self.socket}", "--ctrl", f"type=unixio,path={control}",
             "--flags", "not-need-init,startup-clear"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        eventually(lambda: somebody_listens(self.socket) and somebody_listens(control))

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None


class Manager:
    """A vtpmmgrd, started by hand as its manual page says."""

    def __init__(self, directory, chip):
        self.directory = directory
        self.config = directory / "vtpmmgrd.toml"
        self.log = directory / "vtpmmgrd.log"
        self.state = directory / "state"
        self.socket = directory / "manager"
        self.settings = {"tcti": chip.tcti, "state_dir": str(self.state),
                         "socket": str(self.socket)}
        self.process = None

    def spawn(self, command=(PROGRAMS / "vtpmmgrd",)):
        if self.process and self.running():
            self.kill()  # a check that failed has left it behind
        with self.log.open("ab") as log:
            environment = {k: v for k, v in os.environ.items() if not k.startswith("LISTEN_")}
            self.process = subprocess.Popen([*command, "--config", self.config],
                                            stdout=log, stderr=log, env=environment)

    def start(self, *command):
        """Writes the settings and waits for the socket; `command` as in spawn()."""
        self.config.write_text("".join(f"{key} = {json.dumps(value)}\n"
                                       for key, value in self.settings.items()))
        self.socket.unlink(missing_ok=True)
        self.spawn(*command)
        eventually(lambda: self.process.poll() is not None or somebody_listens(self.socket))
        if self.process.poll() is not None:
            raise AssertionError(f"vtpmmgrd ended with {self.process.returncode}: {self.text()}")

    def stop(self):
        """SIGTERM, if it runs; the exit code."""
        self.process.terminate()
        return self.process.wait(20)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def running(self):
        return self.process.poll() is None

    def text(self):
        return self.log.read_text(errors="replace")


class RigTest(unittest.TestCase):
    """A directory, a chip and a manager; `ready` says whether vtpmctl setup has been run."""

    ready = True

    def setUp(self):
        # A socket's address has room for 107 bytes, so TMPDIR had better be short.
        self.directory = Path(tempfile.mkdtemp(prefix="vtpmmgr."))
        self.addCleanup(shutil.rmtree, self.directory)
        self.chip = self.new_chip("chip-state")
        self.chip.start()
        self.manager = Manager(self.directory, self.chip)
        self.manager.start()
        self.addCleanup(self._end)
        if self.ready:
            self.ctl("setup")

    def _end(self):
        if self.manager.running():
            self.manager.kill()
        found = SANITIZER.search(self.manager.text())
        self.assertIsNone(found, self.manager.text()[found.start():] if found else "")

    def new_chip(self, state):
        chip = Chip(self.directory, state)
        self.addCleanup(chip.stop)
        return chip

    def restart(self):
        self.assertEqual(self.manager.stop(), 0, self.manager.text())
        self.manager.start()

    def ctl(self, *arguments, code=DONE):
        """Runs vtpmctl, which has to end with this code, or one of these; what it printed."""
        run = subprocess.run([VTPMCTL, "--socket", self.manager.socket, *map(str, arguments)],
                             capture_output=True, text=True, timeout=90, check=False)
        said = f"vtpmctl {arguments}: {run.stdout}{run.stderr}"
        self.assertIn(run.returncode, (code,) if isinstance(code, int) else code, said)
        if code != DONE:
            self.assertNotEqual(run.stderr.strip(), "", "a failure without a word")
            return run.stderr
        told = run.stderr
        if "--recovery-out" in arguments:  # before it is known whether it will be in force
            notice, _, told = told.partition("\n")
            self.assertIn("is written; it may be in force from now on", notice, said)
        self.assertEqual(told, "", said)
        return run.stdout

    def json(self, *arguments):
        return json.loads(self.ctl("--json", *arguments))

    def create(self, name, *options):
        """A new instance; its uuid."""
        return uuid.UUID(self.json("create", "--name", name, *options)["uuid"])

    def connect(self, patience=20):
        peer = frames.Peer(self.manager.socket, patience)
        self.addCleanup(peer.close)
        return peer

    def hold(self, which, domain=7):
        """A connection that holds the instance, as a vtpmd's does."""
        peer = self.connect()
        reply = peer.ask(frames.open_instance(which.bytes, domain))
        self.assertIsNone(frames.failure_of(reply), frames.failure_of(reply))
        return peer

    def attach(self, holder):
        engine = holder.attach()
        self.assertIsInstance(engine, frames.Engine, engine)
        self.addCleanup(engine.close)
        return engine

    def assert_failure(self, answer, code):
        """`answer` is a Reply's bytes or what frames.py made of them."""
        failure = frames.failure_of(answer) if isinstance(answer, bytes) else answer
        self.assertIsInstance(failure, frames.Failure)
        self.assertEqual(failure.code, code, failure)
        self.assertNotEqual(failure.context, "")
        return failure

    def assert_closed(self, peer):
        with self.assertRaises((frames.Closed, BrokenPipeError)):
            peer.receive()

    def files(self):
        return {path.name: hashlib.sha256(path.read_bytes()).hexdigest()
                for path in self.manager.state.iterdir()}


if __name__ == "__main__":
    raise SystemExit("not a test: run a *_test.py")
