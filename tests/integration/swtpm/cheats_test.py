"""Peers that do what no honest one does: on the data channel, on the control channel, and with either."""

import array
import os
import socket
import struct
import threading
import time
import unittest

import front as f
from front import SUCCESS


class Cheats(f.FrontTest):
    """swtpm-study's list of malformed input, and worse. After each the TPM and the control channel answer."""

    def setUp(self):
        super().setUp()
        self.there = self.front(self.create("web1", "--tpm", "2.0"))
        self.peer, self.wire = self.machine(self.there)
        self.assertEqual(self.wire.code(f.STARTUP), 0)

    def well(self):
        self.assertEqual(self.wire.code(f.GET_RANDOM), 0)
        self.assertTrue(self.wire.silent(0.05))
        self.assertEqual(self.peer.words(f.GET_CAPABILITY, 2)[0], SUCCESS)

    def test_commands_of_wrong_size(self):
        right = f.GET_RANDOM
        for size in (0, 1, 9, 10, 11, 13, 0x7fffffff, 0xffffffff, 4097, 8192):
            with self.subTest(size=size):
                self.assertEqual(self.wire.code(right[:2] + struct.pack(">I", size) + right[6:]), 0x142)
                self.well()

    def test_fragments(self):
        for cut in range(1, len(f.GET_RANDOM)):
            self.wire.send(f.GET_RANDOM[:cut])
            time.sleep(0.01)
            self.wire.send(f.GET_RANDOM[cut:])
            self.assertEqual(struct.unpack(">I", self.wire.response()[6:10])[0], 0, cut)
        self.well()

    def test_silence_in_a_command(self):
        for cut in (1, 5, 9, 11):
            self.wire.send(f.GET_RANDOM[:cut])
            self.assertEqual(self.peer.words(f.GET_CAPABILITY, 2)[0], SUCCESS)
            self.assertEqual(struct.unpack(">I", self.wire.response()[6:10])[0], 0x142, cut)
            self.well()

    def test_two_commands_in_one_write(self):
        self.assertEqual(self.wire.code(f.GET_RANDOM * 2), 0x142)
        self.well()

    def test_8_kib(self):
        for size in (4096, 4097, 8192, 60000):
            command = struct.pack(">HII", 0x8001, size, 0x17b) + bytes(size - 10)
            self.assertIn(self.wire.code(command), (0x142, 0x95, 0x1c4, 0x15a), size)
            time.sleep(0.05)
            self.well()

    def test_data_peer_that_goes(self):
        for cut in range(len(f.GET_RANDOM) + 1):
            self.wire.send(f.GET_RANDOM[:cut])
            self.wire.close()
            self.wire = self.peer.data()
        self.well()

    def test_data_peer_that_does_not_read(self):
        self.wire.socket.setblocking(False)
        try:
            for _ in range(100000):
                self.wire.socket.send(f.GET_RANDOM)
                time.sleep(0)
        except (BlockingIOError, BrokenPipeError, ConnectionError):
            pass
        self.assertEqual(self.peer.words(f.GET_CAPABILITY, 2)[0], SUCCESS)
        self.wire = self.peer.data()
        self.well()

    def test_second_control_peer_waits(self):
        second = self.control(self.there)
        second.send(f.GET_CAPABILITY)
        second.socket.settimeout(0.3)
        with self.assertRaises(TimeoutError):
            second.socket.recv(1)
        self.well()
        self.peer.close()
        second.socket.settimeout(f.PATIENCE)
        self.assertEqual(struct.unpack(">II", f.exactly(second.socket, 8)), (SUCCESS, 0x17fff))
        self.peer = second
        self.well()

    def test_control_peer_that_goes_at_every_byte(self):
        requests = [struct.pack(">II", f.INIT, 0), struct.pack(">II", f.HASH_DATA, 4) + b"data",
                    struct.pack(">IIIII", f.SET_STATEBLOB, 0, 2, 4, 0),
                    struct.pack(">IIII", f.GET_STATEBLOB, 0, 9, 0), struct.pack(">IQII", f.GET_INFO, 1, 0, 0)]
        self.peer.close()
        for request in requests:
            for cut in range(len(request)):
                peer = self.control(self.there)
                peer.socket.sendall(request[:cut])
                peer.close()
        self.peer = self.control(self.there)
        self.well()

    def test_control_peer_that_falls_silent(self):
        self.peer.socket.sendall(b"\0\0")
        waiting = self.control(self.there)
        begin = time.monotonic()
        self.assertEqual(waiting.words(f.GET_CAPABILITY, 2)[0], SUCCESS)
        self.assertLess(time.monotonic() - begin, 5)
        with self.assertRaises((EOFError, ConnectionError)):
            self.peer.result()
        self.peer = waiting
        self.well()

    def test_control_requests_that_cannot_be(self):
        for request, size, result in (
                (struct.pack(">I", 0), 4, f.BAD_ORDINAL), (struct.pack(">I", 20), 4, f.BAD_ORDINAL),
                (struct.pack(">I", 0xffffffff), 4, f.BAD_ORDINAL),
                (struct.pack(">III", f.INIT, 0, 0), 4, f.BAD_PARAMETER),
                (struct.pack(">II", f.STOP, f.STOP), 4, f.BAD_PARAMETER),
                (struct.pack(">IIII", f.GET_STATEBLOB, 0, 0, 0), 16, f.BAD_PARAMETER),
                (struct.pack(">IIII", f.GET_STATEBLOB, 0, 4, 0), 16, f.BAD_PARAMETER)):
            self.peer.socket.sendall(request)
            answer = f.exactly(self.peer.socket, size)
            self.assertEqual(struct.unpack(">I", answer[:4])[0], result, request.hex())
        self.well()

    def test_what_follows_a_refused_size_is_no_request(self):
        for head in (struct.pack(">II", f.HASH_DATA, 4097), struct.pack(">II", f.HASH_DATA, 0xffffffff),
                     struct.pack(">IIII", f.SET_STATEBLOB, 0, 1, 512 * 1024 + 1),
                     struct.pack(">IIII", f.SET_STATEBLOB, 0, 1, 0xffffffff)):
            peer = self.peer
            peer.socket.sendall(head)
            self.assertEqual(peer.result(), f.BAD_PARAMETER, head.hex())
            try:
                peer.send(f.SHUTDOWN)
            except BrokenPipeError:
                pass
            with self.assertRaises((EOFError, ConnectionError)):
                peer.result()
            self.peer = self.control(self.there)
            self.well()

    def test_data_channel_that_is_no_stream_socket(self):
        for made in (lambda: os.open("/dev/zero", os.O_RDWR), lambda: os.memfd_create("data"),
                     lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()):
            descriptor = made()
            self.peer.socket.sendmsg([struct.pack(">I", f.SET_DATAFD)],
                                     [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))])
            os.close(descriptor)
            self.assertEqual(self.peer.result(), f.BAD_PARAMETER)
            self.well()

    def test_datafd_without_a_descriptor(self):
        self.assertEqual(self.peer.ask(f.SET_DATAFD), f.BAD_PARAMETER)
        self.well()

    def test_control_while_a_command_runs(self):
        """Orders wait for the command's end, and lose nothing."""
        answers = []
        self.wire.send(f.CREATE_RSA)
        asker = threading.Thread(target=lambda: answers.append(self.peer.locality(0)))
        asker.start()
        self.assertEqual(struct.unpack(">I", self.wire.response()[6:10])[0], 0)
        asker.join(f.PATIENCE)
        self.assertEqual(answers, [SUCCESS])
        self.well()


if __name__ == "__main__":
    unittest.main()
