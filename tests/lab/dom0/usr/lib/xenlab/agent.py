"""The lab's agent in the dom0: takes requests over a virtio-serial port, one JSON object a line.

It keeps nothing on the disk: what commands print stays in memory, as a scenario later searches the disk for secrets.
"""

import base64
import json
import os
import signal
import subprocess
import threading
from typing import Any

from consoles import Consoles

PORT = "/dev/virtio-ports/xenlab.agent"
TIMED_OUT = 124

_consoles = Consoles()
_write_lock = threading.Lock()


def run(cmd: str, timeout: float) -> dict[str, Any]:
    """Runs a shell command. Its output goes to a memory file rather than a pipe, so that a daemon
    which the command leaves behind cannot keep us waiting for the end of the output."""
    memory = os.memfd_create("output")
    try:
        child = subprocess.Popen(["/bin/bash", "-c", cmd], stdin=subprocess.DEVNULL, stdout=memory, stderr=memory,
                                 start_new_session=True, cwd="/root")
        try:
            status = child.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            status = TIMED_OUT
        size = os.fstat(memory).st_size
        return {"status": status, "data": os.pread(memory, size, 0)}
    finally:
        os.close(memory)


def put(path: str, mode: int, data: str) -> dict[str, Any]:
    """Writes a file."""
    with open(path, "wb") as file:
        file.write(base64.b64decode(data))
        os.fchmod(file.fileno(), mode)
    return {}


def get(path: str, offset: int, length: int) -> dict[str, Any]:
    """Reads a piece of a file, which may be another process's memory."""
    with open(path, "rb", buffering=0) as file:
        return {"data": os.pread(file.fileno(), length, offset)}


OPERATIONS = {
    "run": run,
    "put": put,
    "get": get,
    "guest_attach": _consoles.attach,
    "guest_run": _consoles.run,
    "guest_wait_ready": _consoles.wait_ready,
    "guest_wait_gone": _consoles.wait_gone,
    "guest_log": _consoles.log,
}


def answer(port: int, request: dict[str, Any]) -> None:
    """Carries out one request and sends its answer."""
    number = request.pop("id")
    try:
        reply = OPERATIONS[request.pop("op")](**request)
        if "data" in reply:
            reply["data"] = base64.b64encode(reply["data"]).decode()
    except Exception as error:  # Whatever went wrong is the caller's to see.
        reply = {"error": f"{type(error).__name__}: {error}"}
    send(port, {"id": number, **reply})


def send(port: int, message: dict[str, Any]) -> None:
    """Writes one whole line, however many writes the port takes for it."""
    line = memoryview(json.dumps(message).encode() + b"\n")
    with _write_lock:
        while line:
            line = line[os.write(port, line):]


def main() -> None:
    """Serves until the other end goes away, each request in a thread of its own."""
    port = os.open(PORT, os.O_RDWR)
    send(port, {"id": 0})
    with os.fdopen(port, "rb", closefd=False) as lines:
        for line in lines:
            request = json.loads(line)
            if request["op"] != "nudge":  # which is there to be heard
                threading.Thread(target=answer, args=(port, request), daemon=True).start()


if __name__ == "__main__":
    main()
