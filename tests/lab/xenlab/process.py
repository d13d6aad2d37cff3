"""A process that the lab started, and that does not outlive it."""

import ctypes
import signal
import subprocess
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Process:
    """A child process with its output in a log file."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._name = arguments[0]
        self._log = log
        with open(log, "wb") as out:
            self._child = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                           preexec_fn=_die_with_parent, cwd="/")

    def wait(self, timeout: float) -> bool:
        """Waits for its end; tells whether it came in time."""
        try:
            self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def stop(self) -> None:
        """Holds it up until go_on()."""
        self._child.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """See stop()."""
        self._child.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it at once."""
        self._child.kill()
        self._child.wait()

    def wait_for_socket(self, path: Path, timeout: float = 30) -> None:
        """Waits until it has made the socket that it serves."""
        deadline = time.monotonic() + timeout
        while not path.exists():
            if self._child.poll() is not None or time.monotonic() > deadline:
                self._child.kill()
                raise RuntimeError(f"{self._name} did not start:\n{self._log.read_text(errors='replace')}")
            # There is no event to wait for: the maker of a socket tells nobody.
            time.sleep(0.02)
