"""The manager's protocol, spoken by hand: what a test wants to send wrong, a library would not.

Protobuf's wire format as far as src/wire/messages.proto needs it, and the frames of
include/vtpm/wire/channel.h.
"""

import array
import os
import socket
import struct
from collections import namedtuple

MAGIC = 0x58565431  # "XVT1"
PROTOCOL = 2
PERMANENT, VOLATILE, SAVED = 1, 2, 3  # vault::BlobKind
MAX_BLOB = 512 * 1024
TPM_1_2, TPM_2_0 = 1, 2

Failure = namedtuple("Failure", "code next context")
Loaded = namedtuple("Loaded", "sequence blobs seed policy")


class Closed(Exception):
    """The other side has closed the connection."""


def _varint(number):
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def message(*fields):
    """A message of (number, value) pairs: an int, or anything that is length-delimited."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
    return out


def _take_varint(data, at):
    number = shift = 0
    while True:
        number |= (data[at] & 0x7F) << shift
        shift += 7
        at += 1
        if data[at - 1] < 0x80:
            return number, at


def fields(data):
    """{field number: [values]} of a message."""
    found, at = {}, 0
    while at < len(data):
        key, at = _take_varint(data, at)
        if key & 7 == 0:
            value, at = _take_varint(data, at)
        elif key & 7 == 2:
            size, at = _take_varint(data, at)
            value, at = data[at:at + size], at + size
        else:
            raise ValueError(f"wire type {key & 7} is not in our messages")
        found.setdefault(key >> 3, []).append(value)
    return found


def number(data, field):
    return fields(data).get(field, [0])[0]


def text(data, field):
    return fields(data).get(field, [b""])[0].decode()


def failure_of(reply):
    """The Failure of a Reply or an EngineReply; None if it is an answer."""
    found = fields(reply).get(1)
    return found and Failure(*(text(found[0], i) for i in (1, 2, 3)))


def frame(body, payload=b""):
    return struct.pack(">III", MAGIC, len(body), len(payload)) + body + payload


def request(kind, body=b"", protocol=PROTOCOL):
    return message((1, protocol), (kind, body))


# The requests, by their field numbers in Request.
SETUP, CREATE, LIST, SHOW, RENAME, REMOVE, STATUS, OPEN, ATTACH = range(2, 11)


def status():
    return request(STATUS)


def create(name, uuid=b"", tpm=TPM_1_2):
    return request(CREATE, message((1, name), (2, tpm), (3, uuid)))


def open_instance(uuid, domain=7, device=0):
    return request(OPEN, message((1, uuid), (2, domain), (3, device)))


def attach():
    return request(ATTACH)


def load():
    return message((1, b""))


def commit(sequence, *blobs):
    """A Commit and its payload; a blob is (kind, content), content None: to be erased."""
    body = message((1, sequence))
    for kind, content in blobs:
        body += message((2, message((1, kind), (3, 1)) if content is None
                         else message((1, kind), (2, len(content)))))
    return message((2, body)), b"".join(content or b"" for _, content in blobs)


class Peer:
    """One end of a connection."""

    def __init__(self, where, patience=20):
        if isinstance(where, socket.socket):
            self.socket = where
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(str(where))
        self.socket.settimeout(patience)
        self.payload = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, body, payload=b""):
        self.raw(frame(body, payload))

    def raw(self, data):
        self.socket.sendall(data)

    def _read(self, size):
        data = b""
        while len(data) < size:
            try:
                got = self.socket.recv(size - len(data))
            except ConnectionResetError:
                got = b""
            if not got:
                raise Closed
            data += got
        return data

    def receive(self, prefix=b""):
        """The message of the next frame; its payload is in self.payload."""
        magic, size, payload_size = struct.unpack(">III", prefix + self._read(12 - len(prefix)))
        if magic != MAGIC:
            raise ValueError(f"magic {magic:#x}")
        body = self._read(size)
        self.payload = self._read(payload_size)
        return body

    def ask(self, body, payload=b""):
        self.send(body, payload)
        return self.receive()

    def attach(self):
        """Asks for an engine channel; gives it, or the Failure."""
        self.send(attach())
        first, ancillary, _, _ = self.socket.recvmsg(1, socket.CMSG_SPACE(4))
        reply = self.receive(first)
        if failure_of(reply):
            return failure_of(reply)
        descriptors = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                descriptors.frombytes(data[:4])
        os.set_inheritable(descriptors[0], False)
        return Engine(socket.socket(fileno=descriptors[0]))


class Engine(Peer):
    """An engine's end of its channel to the manager."""

    def load(self):
        reply = self.ask(load())
        if failure_of(reply):
            return failure_of(reply)
        loaded, at, blobs = fields(reply)[2][0], 0, {}
        for blob in fields(loaded).get(2, []):
            size = number(blob, 2)
            blobs[number(blob, 1)] = self.payload[at:at + size]
            at += size
        seed = self.payload[at:]
        if len(seed) != number(loaded, 3):
            raise ValueError("the payload is not what the message says")
        policy = fields(loaded).get(4, [b""])[0]
        return Loaded(number(loaded, 1), blobs, seed, policy)

    def commit(self, sequence, *blobs):
        """The new sequence, or the Failure."""
        return self.committed(self.ask(*commit(sequence, *blobs)))

    @staticmethod
    def committed(reply):
        return failure_of(reply) or number(fields(reply)[3][0], 1)
