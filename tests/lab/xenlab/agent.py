"""The lab's end of the channel into the dom0 (dom0/usr/lib/xenlab/agent.py is the other)."""

import base64
import json
import socket
import threading
import time
from pathlib import Path
from typing import Any

# A machine under emulation, on a host with other work, may take this much longer to tell that time is up.
GRACE_S = 60.0
# The emulated machine's timer sometimes stops: all of it sleeps until something from outside wakes it.
NUDGE_S = 10.0
PIECE = 1 << 20


class LabError(Exception):
    """The lab itself, or what a scenario needed as a matter of course, failed."""


class Agent:
    """Sends requests; many threads may wait for answers at once."""

    def __init__(self, path: Path) -> None:
        """Connects to the port. The agent in the machine comes up later: see wait_up()."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._answers: dict[int, dict[str, Any]] = {}
        self._number = 0
        self._up = False
        self._closed = False
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self) -> None:
        try:
            with self._socket.makefile("rb") as lines:
                for line in lines:
                    self._take(json.loads(line))
        except (OSError, ValueError):
            pass
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self, message: dict[str, Any]) -> None:
        with self._changed:
            if message["id"] == 0:
                self._up = True
            else:
                self._answers[message["id"]] = message
            self._changed.notify_all()

    def wait_up(self, timeout: float) -> bool:
        """Waits for the agent's first word; False also when the machine went away."""
        with self._changed:
            self._changed.wait_for(lambda: self._up or self._closed, timeout)
            return self._up and not self._closed

    def ask(self, op: str, wait: float, **fields: Any) -> dict[str, Any]:
        """Has the agent do `op`, waiting `wait` seconds and some grace. Raises LabError when it could not."""
        with self._changed:
            self._number += 1
            number = self._number
            self._send({"id": number, "op": op, **fields})
            self._wait_for(number, wait + GRACE_S)
            answer = self._answers.pop(number, None)
            closed = self._closed
        if answer is None:
            raise LabError(f"the machine went away during '{op}'" if closed else f"no answer from the dom0 to '{op}'")
        if "error" in answer:
            raise LabError(f"{op}: {answer['error']}")
        if "data" in answer:
            answer["data"] = base64.b64decode(answer["data"])
        return answer

    def _send(self, message: dict[str, Any]) -> None:
        self._socket.sendall(json.dumps(message).encode() + b"\n")

    def _wait_for(self, number: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._changed.wait_for(lambda: number in self._answers or self._closed,
                                         min(NUDGE_S, max(0.0, end - time.monotonic()))):
            if time.monotonic() >= end:
                return
            try:
                self._send({"op": "nudge"})
            except OSError:
                return  # _receive() says so too

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Writes a file in the dom0."""
        self.ask("put", 60, path=path, mode=mode, data=base64.b64encode(data).decode())

    def get(self, path: str, offset: int, length: int) -> bytes:
        """Reads part of a file in the dom0; shorter than asked for at its end."""
        pieces = []
        while length > 0:
            piece = self.ask("get", 60, path=path, offset=offset, length=min(length, PIECE))["data"]
            if not piece:
                break
            pieces.append(piece)
            offset += len(piece)
            length -= len(piece)
        return b"".join(pieces)

    def close(self) -> None:
        """Lets go of the port."""
        self._socket.close()
