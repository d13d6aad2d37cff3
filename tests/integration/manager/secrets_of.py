"""The secrets of a vault, learnt without the manager: its files, the recovery key, and openssl.

What include/vtpm/vault/escrow.h and src/vault/key_schedule.h say, once more in another language.
"""

import base64
import ctypes
import hashlib
import hmac
import shutil
import sqlite3
import struct
import subprocess
import tempfile
from pathlib import Path

crypto = ctypes.CDLL("libcrypto.so.3")
KEY_SIZE, WRAP_OVERHEAD = 32, 8
# RFC 5480: a P-256 public key up to its point.
SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d030107034200")


def hkdf(key, info, salt=b"", size=KEY_SIZE):
    """RFC 5869 with SHA-256; up to one hash."""
    extracted = hmac.digest(salt or bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\1", "sha256")[:size]


def unwrap(under, wrapped):
    """RFC 3394."""
    schedule = ctypes.create_string_buffer(512)  # an AES_KEY is smaller
    out = ctypes.create_string_buffer(len(wrapped))
    crypto.AES_set_decrypt_key(under, 256, schedule)
    size = crypto.AES_unwrap_key(schedule, None, out, wrapped, len(wrapped))
    if size != len(wrapped) - WRAP_OVERHEAD:
        raise ValueError("not wrapped under this key")
    return out.raw[:size]


def scalar_of(pem):
    """The private number of a P-256 key in a file."""
    text = subprocess.run(["openssl", "pkey", "-in", pem, "-noout", "-text"], check=True,
                          capture_output=True, text=True).stdout
    digits = text.split("priv:")[1].split("pub:")[0].replace(":", "").split()
    return bytes.fromhex("".join(digits)).rjust(32, b"\0")[-32:]


def of_private_key(name, pem):
    """{name: bytes}: the number, and the text it is read from, line by line."""
    lines = Path(pem).read_bytes().splitlines()[1:-1]
    return {f"{name}: number": scalar_of(pem),
            **{f"{name}: line {n}": line for n, line in enumerate(lines) if not _public(line)}}


def _public(line):
    """Whether a line of a PKCS#8 file is what all of them begin with."""
    return base64.b64decode(line)[:4] == bytes.fromhex("30818702") and len(line) < 40


def _sized(data, at):
    size = struct.unpack_from(">I", data, at)[0]
    return data[at + 4:at + 4 + size], at + 4 + size


class Escrow:
    """What lies in the column `escrow`."""

    def __init__(self, blob):
        if blob[:8] != b"XVTPMESC":
            raise ValueError("not an escrow")
        self.manager, self.owner = blob[12:28], blob[28:44]
        self.recipient, at = _sized(blob, 44)
        self.ephemeral, at = _sized(blob, at)
        self.wrapped, at = _sized(blob, at)

    def open(self, pem):
        """{what: bytes}: the key, the key that it was wrapped under, and what they agreed on."""
        with tempfile.NamedTemporaryFile(suffix=".der") as peer:
            peer.write(SPKI + self.ephemeral)
            peer.flush()
            shared = subprocess.run(["openssl", "pkeyutl", "-derive", "-inkey", pem, "-peerform",
                                     "DER", "-peerkey", peer.name], check=True,
                                    capture_output=True).stdout
        wrapping = hkdf(shared, b"xen-vtpm escrow 2" + self.manager + self.owner,
                        self.ephemeral + self.recipient)
        return {"": unwrap(wrapping, self.wrapped), ": shared": shared, ": wrapping": wrapping}


class Secrets:
    """All that the vault in `state` keeps from others, for who has its recovery key."""

    def __init__(self, state, pem):
        self.held = {}       # an open vault has them
        self.groups = {}     # and these, by the group's name, while the group is open
        self.passing = {}    # only while it does something with them
        with tempfile.TemporaryDirectory() as copy:
            shutil.copytree(state, copy, dirs_exist_ok=True)
            database = sqlite3.connect(f"{copy}/vault.db")
            self._read(database, pem)
            database.close()

    def _read(self, database, pem):
        escrow, auth, anchor = database.execute(
            "SELECT escrow, cell_auth, anchor_key FROM vault").fetchone()
        root = self._open("root key", escrow, pem)
        self.held["root key"] = root
        for name in ("meta", "sum", "total", "cell"):
            self.held[f"K_{name}"] = hkdf(root, f"xen-vtpm K_{name} 1".encode())
        self.held["K_anchor"] = unwrap(self.held["K_cell"], anchor)
        self.held["K_journal"] = hkdf(self.held["K_anchor"], b"xen-vtpm K_journal 1")
        self.held["authorization of the cell"] = unwrap(self.held["K_cell"], auth)
        for number, name, escrow in database.execute(
                "SELECT id, name, escrow FROM groups WHERE NOT deleted").fetchall():
            key = self._open(f"key of group {name}", escrow, pem)
            self.groups[name] = key
            self.passing[f"import key of group {name}"] = hkdf(key, b"xen-vtpm K_import 1\0")
            for instance, wrapped in database.execute(
                    "SELECT name, wrapped_key FROM instances WHERE group_id = ?"
                    " AND wrapped_key NOT NULL", (number,)).fetchall():
                inner = unwrap(key, wrapped)
                self.passing[f"key of {instance}"] = inner
                self.passing[f"K_store of {instance}"] = hkdf(inner, b"xen-vtpm K_store 1")

    def _open(self, name, escrow, pem):
        opened = Escrow(escrow).open(pem)
        for what, value in opened.items():
            if what:
                self.passing[f"escrow of {name}{what}"] = value
        return opened[""]

    def all(self):
        """{name: bytes}, each name with the beginning of a hash: a key has others after it."""
        named = {**self.held, **{f"key of group {g}": k for g, k in self.groups.items()},
                 **self.passing}
        return {f"{name} ({hashlib.sha256(value).hexdigest()[:6]})": value
                for name, value in named.items()}
