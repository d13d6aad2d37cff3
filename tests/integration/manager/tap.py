"""Somebody on the wires between the manager and its chip."""

import socket
import struct
import threading
import time

CUT, SILENT = object(), object()
# TPM 2.0 Part 2, table 16; the answer to NV_Extend has command code 0x136 to it.
RETRY, NV_RATE, LOCKOUT, TESTING, FAILURE = 0x922, 0x920, 0x921, 0x90A, 0x101
NV_EXTEND = 0x136


def error(code):
    return struct.pack(">HII", 0x8001, 10, code)


def flip(answer, at):
    return answer[:at] + bytes([answer[at] ^ 1 << at % 8]) + answer[at + 1:]


class Tap:
    """Passes commands on to `chip` and its answers back, but for what `meddle` does.

    meddle(number, command, pass_on) gives the answer, CUT (the connection goes) or SILENT (nothing,
    until the other side goes or release() is called); pass_on() asks the chip.
    """

    def __init__(self, directory, chip):
        self.path = directory / "tap"
        self.chip = chip
        self.meddle = None
        self.commands = 0
        self.last = error(FAILURE)
        self._released = threading.Event()
        (directory / "tap.ctrl").symlink_to(f"{chip}.ctrl")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(8)
        threading.Thread(target=self._serve, daemon=True).start()

    def arm(self, meddle):
        self.commands = 0
        self._released.clear()
        self.meddle = meddle

    def release(self):
        self.meddle = None
        self._released.set()

    def close(self):
        self.release()
        self._listener.close()

    @staticmethod
    def _message(peer):
        header = b""
        while len(header) < 10:
            got = peer.recv(10 - len(header))
            if not got:
                return None
            header += got
        size = struct.unpack(">I", header[2:6])[0]
        body = b""
        while len(body) < size - 10:
            got = peer.recv(size - 10 - len(body))
            if not got:
                return None
            body += got
        return header + body

    def _pass_on(self, command):
        with socket.socket(socket.AF_UNIX) as chip:
            chip.connect(str(self.chip))
            chip.sendall(command)
            self.last = self._message(chip) or self.last
            return self.last

    def _serve(self):
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                try:
                    while self._exchange(peer):
                        pass
                except OSError:
                    pass

    def _exchange(self, peer):
        command = self._message(peer)
        if command is None:
            return False
        self.commands += 1
        meddle = self.meddle
        answer = meddle(self.commands, command, lambda: self._pass_on(command)) if meddle \
            else self._pass_on(command)
        if answer is SILENT:
            self._released.wait()
            return False
        if answer is CUT:
            return False
        peer.sendall(answer)
        # Who waits for more than there is in an answer would wait as for a silent chip.
        return answer is self.last


def once(nth, what):
    """what(pass_on) at the nth command."""
    def meddle(number, _command, pass_on):
        return what(pass_on) if number == nth else pass_on()
    return meddle


def late(pass_on):
    time.sleep(1.2)
    return pass_on()
