"""A vtpm-swtpm at work, and a peer that speaks swtpm's protocol with it, as QEMU does."""

import array
import ctypes
import os
import resource
import socket
import struct
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "manager"))
import rig  # noqa: E402

(GET_CAPABILITY, INIT, SHUTDOWN, GET_ESTABLISHED, SET_LOCALITY, HASH_START, HASH_DATA, HASH_END, CANCEL,
 STORE_VOLATILE, RESET_ESTABLISHED, GET_STATEBLOB, SET_STATEBLOB, STOP, GET_CONFIG, SET_DATAFD,
 SET_BUFFERSIZE, GET_INFO, LOCK_STORAGE) = range(1, 20)
PERMANENT, VOLATILE, SAVED = 1, 2, 3
SUCCESS, BAD_PARAMETER, FAIL, BAD_ORDINAL, NO_SUCH_STATE = 0, 3, 9, 0xa, 0x800

PATIENCE = 20

# A killed front's engine is ours to reap: init may take seconds for it.
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def environment():
    """Engines lock their memory. Where that may not be much, and root may not change it, they do not."""
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except ValueError:
        return os.environ | {"LD_PRELOAD": os.environ["VTPM_UNLOCKED"]}
    return os.environ


def exactly(peer, size):
    """The next `size` bytes; an EOFError if the other side has closed."""
    got = b""
    while len(got) < size:
        piece = peer.recv(size - len(got))
        if not piece:
            raise EOFError(f"closed after {len(got)} of {size} bytes")
        got += piece
    return got


class Data:
    """The machine's end of a data channel."""

    def __init__(self, peer):
        self.socket = peer
        self.socket.settimeout(PATIENCE)

    def send(self, data):
        self.socket.sendall(data)

    def response(self):
        head = exactly(self.socket, 10)
        return head + exactly(self.socket, struct.unpack(">I", head[2:6])[0] - 10)

    def transmit(self, command):
        self.send(command)
        return self.response()

    def code(self, command):
        return struct.unpack(">I", self.transmit(command)[6:10])[0]

    def silent(self, seconds):
        """Nothing comes for so long."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(1) is None
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(PATIENCE)

    def close(self):
        self.socket.close()


class Peer(Data):
    """Who connects to the data socket instead."""

    def __init__(self, path):
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(str(path))
        super().__init__(peer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Control:
    """A peer on the control channel."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(str(path))
        self.socket.settimeout(PATIENCE)

    def send(self, command, body=b""):
        self.socket.sendall(struct.pack(">I", command) + body)

    def result(self):
        return struct.unpack(">I", exactly(self.socket, 4))[0]

    def ask(self, command, body=b""):
        """The result of a command whose answer is nothing else."""
        self.send(command, body)
        return self.result()

    def words(self, command, count, body=b""):
        self.send(command, body)
        return struct.unpack(f">{count}I", exactly(self.socket, 4 * count))

    def init(self, flags=0):
        return self.ask(INIT, struct.pack(">I", flags))

    def data(self):
        """A data channel, given away as QEMU does."""
        ours, theirs = socket.socketpair()
        rights = array.array("i", [theirs.fileno()])
        self.socket.sendmsg([struct.pack(">I", SET_DATAFD)],
                            [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
        theirs.close()
        if self.result() != SUCCESS:
            raise AssertionError("the data channel was not taken")
        return Data(ours)

    def locality(self, number):
        return self.ask(SET_LOCALITY, bytes([number, 0, 0, 0]))

    def established(self):
        self.send(GET_ESTABLISHED)
        result, bit = struct.unpack(">IB3x", exactly(self.socket, 8))
        return result, bit

    def hash_sequence(self, data):
        return (self.ask(HASH_START), self.ask(HASH_DATA, struct.pack(">I", len(data)) + data),
                self.ask(HASH_END))

    def state_result(self, kind):
        return self.words(GET_STATEBLOB, 4, struct.pack(">III", 1, kind, 0))[0]

    def state(self, kind):
        """(result, flags, blob)"""
        result, flags, total, length = self.words(GET_STATEBLOB, 4, struct.pack(">III", 1, kind, 0))
        blob = exactly(self.socket, length)
        if total != length:
            raise AssertionError(f"{length} bytes of {total}")
        return result, flags, blob

    def set_state(self, kind, blob, flags=0):
        # In two writes, as QEMU does.
        self.send(SET_STATEBLOB, struct.pack(">III", flags, kind, len(blob)))
        if blob:
            self.socket.sendall(blob)
        return self.result()

    def info(self, flags):
        result, total, length = self.words(GET_INFO, 3, struct.pack(">QII", flags, 0, 0))
        return result, exactly(self.socket, length)[:total].rstrip(b"\0")

    def close(self):
        self.socket.close()


def under_filter():
    """What comes before the program, for the system calls that its unit allows."""
    program = os.environ.get("VTPM_UNDER_FILTER")
    return [program, f"{os.environ['VTPM_UNIT_CALLS']}/vtpm-swtpm@.calls"] if program else []


class Front:
    """A vtpm-swtpm for one instance."""

    def __init__(self, directory, manager, instance, name, *options):
        self.path = directory / f"{name}.sock"
        self.log = directory / f"{name}.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                under_filter() + [rig.PROGRAMS / "vtpm-swtpm", instance, "--manager", manager.socket, "--engine",
                 rig.PROGRAMS / "vtpm-swtpm-engine", "--run-dir", directory, "--ctrl", self.path, *options],
                stdout=log, stderr=log, env=environment())
        rig.eventually(lambda: self.process.poll() is not None or rig.somebody_listens(self.path))
        if self.process.poll() is not None:
            raise AssertionError(f"vtpm-swtpm ended with {self.process.returncode}: {self.text()}")

    def engines(self):
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(child) for child in children]

    def text(self):
        return self.log.read_text(errors="replace")

    def says(self, text):
        """Waits for it in the log: what an engine says comes through a pipe."""
        rig.eventually(lambda: text in self.text())

    def end(self):
        """SIGTERM; the exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)

    def gone(self):
        """Waits for one that ends by itself: until then its socket is there."""
        self.process.wait(PATIENCE)

    def kill(self):
        """Without a word. The next front has the same seat, and the kernel counts the seat's processes."""
        engines = self.engines() if self.process.poll() is None else []
        self.process.kill()
        self.process.wait()
        for engine in engines:
            rig.eventually(lambda engine=engine: os.waitpid(engine, os.WNOHANG)[0] == engine)


class FrontTest(rig.RigTest):
    """An instance of each version, and fronts for them."""

    def setUp(self):
        super().setUp()
        self.fronts = []

    def front(self, instance, name=None, *options):
        front = Front(self.directory, self.manager, str(instance), name or str(instance)[:8], *options)
        self.addCleanup(front.kill)
        self.fronts.append(front)
        return front

    def control(self, front):
        peer = Control(front.path)
        self.addCleanup(peer.close)
        return peer

    def machine(self, front):
        """(control, data) after what QEMU does at its start."""
        control = self.control(front)
        data = control.data()
        self.addCleanup(data.close)
        self.assertEqual(control.words(GET_CAPABILITY, 2)[0], SUCCESS)
        self.assertEqual(control.ask(STOP), SUCCESS)
        self.assertEqual(control.words(SET_BUFFERSIZE, 4, struct.pack(">I", 4096))[0], SUCCESS)
        self.assertEqual(control.init(), SUCCESS, front.text())
        self.assertEqual(control.locality(0), SUCCESS)
        return control, data


def v20(code, body=b"", tag=0x8001):
    return struct.pack(">HII", tag, 10 + len(body), code) + body


def session(handle, body=b""):
    """A command of 2.0 with one handle and the empty password."""
    authorization = struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
    return struct.pack(">I", handle) + authorization + body


STARTUP = v20(0x144, b"\0\0")
STARTUP_STATE = v20(0x144, b"\0\1")
SHUTDOWN_STATE = v20(0x145, b"\0\1")
READ_CLOCK = v20(0x181)
GET_RANDOM = v20(0x17b, b"\0\x08")


def pcr_banks(data):
    """Those that have PCRs: TPM2_GetCapability(TPM_CAP_PCRS)."""
    answer = data.transmit(v20(0x17a, struct.pack(">III", 5, 0, 16)))
    names = {0x4: "sha1", 0xb: "sha256", 0xc: "sha384", 0xd: "sha512"}
    banks = set()
    for at in range(19, len(answer), 6):
        bank, size, bits = struct.unpack(">HB3s", answer[at:at + 6])
        if size != 3 or bits not in (bytes(3), b"\xff" * 3):
            raise AssertionError(answer.hex())
        if any(bits):
            banks.add(names[bank])
    return banks


def pcr_read(number):
    select = bytearray(3)
    select[number // 8] |= 1 << (number % 8)
    return v20(0x17e, struct.pack(">IHB", 1, 0x000b, 3) + bytes(select))


def pcr_extend(number, digest):
    return v20(0x182, session(number, struct.pack(">IH", 1, 0x000b) + digest), tag=0x8002)


NV = 0x01500001


def nv_define(size):
    public = struct.pack(">IHIHH", NV, 0x000b, 0x02040004, 0, size)
    return v20(0x12a, session(0x40000001, struct.pack(">HH", 0, len(public)) + public), tag=0x8002)


def nv_write(data):
    body = struct.pack(">II", NV, NV) + struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
    return v20(0x137, body + struct.pack(">H", len(data)) + data + b"\0\0", tag=0x8002)


def nv_read(size):
    body = struct.pack(">II", NV, NV) + struct.pack(">IIHBH", 9, 0x40000009, 0, 0, 0)
    return v20(0x14e, body + struct.pack(">HH", size, 0), tag=0x8002)


# TPM2_CreatePrimary of an RSA-4096 key has no place in libtpms; 2048 takes long enough to be cancelled.
CREATE_RSA = v20(0x131, session(0x40000007, struct.pack(">HHH", 4, 0, 0) + bytes.fromhex(
    "001a" "0001" "000b" "00030472" "0000" "0006008000430010" "0800" "00000000" "0000")
    + b"\0\0" + struct.pack(">I", 0)), tag=0x8002)

STARTUP_12 = bytes.fromhex("00c10000000c000000990001")
SELF_TEST_12 = bytes.fromhex("00c10000000a00000050")
GET_TICKS_12 = bytes.fromhex("00c10000000a000000f1")
PCR_READ_12 = bytes.fromhex("00c10000000e000000150000000a")
EXTEND_12 = bytes.fromhex("00c100000022000000140000000a") + b"\x11" * 20


def pcr_value(response):
    return response[-32:]


if __name__ == "__main__":
    raise SystemExit("not a test: run a *_test.py")
