"""Talks to the agents that run on guests' consoles (guest/lab/agent)."""

import base64
import hashlib
import os
import re
import subprocess
import threading
import time
import tty
from typing import Any

# An answer whose last line the kernel's own output garbled would never be seen: ask for it again now and then.
ASK_AGAIN_S = 20.0


class Console:
    """One guest's console: a thread gathers what comes out, callers type commands in."""

    def __init__(self, domid: int) -> None:
        path = subprocess.run(["xenstore-read", f"/local/domain/{domid}/console/tty"], check=True,
                              capture_output=True, text=True).stdout.strip()
        self._fd = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._fd)
        self._text = ""
        self._gone = False
        self._number = 0
        self._news = threading.Condition()
        self._one_at_a_time = threading.Lock()
        threading.Thread(target=self._gather, daemon=True).start()

    def _gather(self) -> None:
        while True:
            try:
                piece = os.read(self._fd, 4096)
            except OSError:
                piece = b""
            with self._news:
                self._text += piece.decode("utf-8", "replace")
                self._gone = not piece
                self._news.notify_all()
            if not piece:
                os.close(self._fd)
                return

    def _type(self, line: str) -> None:
        data = memoryview(line.encode() + b"\n")
        while data:
            data = data[os.write(self._fd, data):]

    def wait_ready(self, timeout: float) -> bool:
        """Waits for the guest's agent to have started."""
        with self._news:
            self._news.wait_for(lambda: self._gone or "@ready" in self._text, timeout)
            return "@ready" in self._text and not self._gone

    def wait_gone(self, timeout: float) -> bool:
        """Waits for the domain to be destroyed, which closes its console."""
        with self._news:
            return self._news.wait_for(lambda: self._gone, timeout)

    def log(self) -> str:
        """Returns all that the console has shown."""
        with self._news:
            return self._text

    def run(self, cmd: str, timeout: float) -> dict[str, Any]:
        """Runs a command in the guest; status 124 when it took too long, 125 when the guest went away."""
        with self._one_at_a_time:
            self._number += 1
            with self._news:
                start = len(self._text)
            self._type(f"run {self._number} {base64.b64encode(cmd.encode()).decode()}")
            deadline = time.monotonic() + timeout
            while (left := deadline - time.monotonic()) > 0:
                found = self._wait_answer(start, min(left, ASK_AGAIN_S))
                if isinstance(found, dict):
                    return found
                start = found
                self._type(f"again {self._number}")
            return {"status": 124, "data": b""}

    def _wait_answer(self, start: int, timeout: float) -> dict[str, Any] | int:
        """Returns the answer that lies behind `start`, or from where to look for it the next time."""
        end = re.compile(rf"@{self._number} end (\d+) ([0-9a-f]{{32}})")
        with self._news:
            self._news.wait_for(lambda: self._gone or end.search(self._text, start), timeout)
            last = end.search(self._text, start)
            if last is None:
                return {"status": 125, "data": b""} if self._gone else start
            lines = re.findall(rf"^@{self._number} ([A-Za-z0-9+/=]+)\r*$", self._text[start:last.start()], re.M)
        try:
            data = base64.b64decode("".join(lines))
        except ValueError:
            data = None
        if data is None or hashlib.md5(data).hexdigest() != last[2]:
            return last.end()
        return {"status": int(last[1]), "data": data}


class Consoles:
    """The consoles of all guests, by domain id."""

    def __init__(self) -> None:
        self._by_domid: dict[int, Console] = {}

    def attach(self, domid: int) -> dict[str, Any]:
        """Begins to listen to a domain's console."""
        self._by_domid[domid] = Console(domid)
        return {}

    def run(self, domid: int, cmd: str, timeout: float) -> dict[str, Any]:
        """See Console.run."""
        return self._by_domid[domid].run(cmd, timeout)

    def wait_ready(self, domid: int, timeout: float) -> dict[str, Any]:
        """See Console.wait_ready."""
        return {"done": self._by_domid[domid].wait_ready(timeout)}

    def wait_gone(self, domid: int, timeout: float) -> dict[str, Any]:
        """See Console.wait_gone."""
        return {"done": self._by_domid[domid].wait_gone(timeout)}

    def log(self, domid: int) -> dict[str, Any]:
        """See Console.log."""
        return {"data": self._by_domid[domid].log().encode()}
