"""All that goes between the manager and its chip, whatever it is asked: no secret in the clear."""

import struct
import subprocess
import unittest
from collections import Counter

import tap
from whole_api import WholeApi

DECRYPT, ENCRYPT = 0x20, 0x40  # TPM 2.0 Part 2, 8.4: TPMA_SESSION
NO_KEY = 0x40000007  # TPM_RH_NULL
START_AUTH_SESSION = 0x176
# By command code: its name, how many handles it has, and what its session must do to parameters.
SECRET = {0x12A: ("NV_DefineSpace", 1, DECRYPT), 0x153: ("Create", 1, DECRYPT),
          0x15E: ("Unseal", 1, ENCRYPT), 0x17B: ("GetRandom", 0, ENCRYPT)}


def sessions(command, handles):
    """[(handle, attributes)] of a command's authorization area (TPM 2.0 Part 1, 18.9)."""
    tag, _, _ = struct.unpack_from(">HII", command)
    if tag != 0x8002:
        return []
    at = 10 + 4 * handles
    end = at + 4 + struct.unpack_from(">I", command, at)[0]
    at, found = at + 4, []
    while at < end:
        handle, nonce = struct.unpack_from(">IH", command, at)
        at += 6 + nonce
        attributes, mac = struct.unpack_from(">BH", command, at)
        at += 3 + mac
        found.append((handle, attributes))
    return found


class BusSecrets(WholeApi):
    def setUp(self):
        super().setUp()
        self.tap = tap.Tap(self.directory, self.chip.socket)
        self.addCleanup(self.tap.close)
        self.assertEqual(self.manager.stop(), 0)
        self.manager.settings["tcti"] = f"swtpm:path={self.tap.path}"
        self.exchanges = []
        self.tap.arm(self.record)

    def record(self, _number, command, pass_on):
        answer = pass_on()
        self.exchanges.append((command, answer))
        return answer

    def test_everything_that_was_said(self):
        self.tell()
        spoken = Counter(struct.unpack_from(">I", command, 6)[0] for command, _ in self.exchanges)
        for code, (name, _, _) in SECRET.items():
            self.assertGreater(spoken[code], 0, f"{name} was never asked")
        everything = b"".join(part for exchange in self.exchanges for part in exchange)
        # The approver's public key is shown to the chip as it is: the search works.
        spki = subprocess.run(["openssl", "pkey", "-pubin", "-in", self.public, "-outform", "DER"],
                              check=True, capture_output=True).stdout
        self.assertIn(spki[-64:-32], everything)
        for name, value in self.ever.items():
            for form in (value, value[::-1], value[:16], value[-16:]):
                self.assertFalse(form in everything, f"{name} goes over the bus in the clear")
        print(f"bus: {len(self.exchanges)} commands, {len(everything)} bytes, {len(self.ever)} "
              "secrets", flush=True)

        # What the chip draws is known to it and the manager alone; so it has to be under a session
        # that encrypts, and each session under a salt for the chip's own key.
        for command, _ in self.exchanges:
            code = struct.unpack_from(">I", command, 6)[0]
            if code in SECRET:
                name, handles, does = SECRET[code]
                self.assertTrue(any(attributes & does and handle >> 24 in (2, 3)
                                    for handle, attributes in sessions(command, handles)),
                                f"{name} without a session that encrypts: {command.hex()}")
            if code == START_AUTH_SESSION:
                self.assertNotEqual(struct.unpack_from(">I", command, 10)[0], NO_KEY)


if __name__ == "__main__":
    unittest.main()
