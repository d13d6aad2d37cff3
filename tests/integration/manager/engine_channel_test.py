"""An engine's channel: one instance's state, in sequence, and nothing else."""

import os
import time
import unittest
import uuid

import frames
import rig
from frames import MAX_BLOB, PERMANENT, SAVED, VOLATILE


class EngineChannel(rig.RigTest):
    def setUp(self):
        super().setUp()
        self.web1 = self.create("web1", "--tpm", "1.2")
        self.holder = self.hold(self.web1)
        self.engine = self.attach(self.holder)

    def assert_state(self, sequence, blobs):
        self.engine = self.attach(self.holder)  # a channel gives the state once
        loaded = self.engine.load()
        self.assertEqual((loaded.sequence, loaded.blobs), (sequence, blobs))

    def assert_not_now(self, engine):
        engine.socket.settimeout(2)
        engine.send(*frames.commit(200, (PERMANENT, b"200")))
        with self.assertRaises(TimeoutError):
            engine.receive()

    def test_a_new_instance(self):
        loaded = self.engine.load()
        self.assertEqual((loaded.sequence, loaded.blobs, len(loaded.seed)), (0, {}, 32))
        self.assert_failure(self.engine.load(), "invalid-argument")
        # A guest that starts again and again does not keep the chip busy.
        self.assertEqual(self.attach(self.holder).load().seed, b"")
        self.restart()
        again = self.attach(self.hold(self.web1)).load()
        self.assertEqual(len(again.seed), 32)
        self.assertNotEqual(again.seed, loaded.seed)

    def test_each_write_known_to_the_chip_and_no_more_of_them_than_it_can_bear(self):
        sync = self.create("sync", "--sync")
        holder = self.hold(sync, domain=8)
        engine = self.attach(holder)
        before = self.json("status")["freshness"]["chip_writes"]
        for sequence in range(200):
            self.assertEqual(engine.commit(sequence, (PERMANENT, b"%d" % sequence)), sequence + 1)
        self.assertGreaterEqual(self.json("status")["freshness"]["chip_writes"], before + 200)
        self.assert_not_now(engine)
        # Nor does the guest's next power cycle make it more. Others go on.
        engine.close()
        holder.close()
        rig.eventually(lambda: self.json("status")["in_use"] == 1)
        self.assert_not_now(self.attach(self.hold(sync, domain=9)))
        self.assertEqual(self.engine.commit(0, (PERMANENT, b"web1")), 1)

    def test_a_new_policy_is_for_the_next_engine(self):
        self.assertEqual(self.engine.load().policy, b"")
        changed = self.json("policy", "web1", "--deny", "TPM_OwnerClear", "0x5d",
                            "--localities", "0,2", "--vendor")
        self.assertEqual(changed["denied"], ["TPM_OwnerClear", "TPM_ForceClear"])
        self.assertEqual((changed["localities"], changed["vendor"], changed["maintenance"]),
                         ([0, 2], True, False))
        self.restart()
        self.assertEqual(self.json("policy", "web1"), changed)
        policy = frames.fields(self.attach(self.hold(self.web1)).load().policy)
        self.assertEqual(policy, {1: [b"\x5b\x5d"], 2: [5], 3: [1]})
        changed = self.json("policy", "web1", "--permit", "forceclear", "--no-vendor")
        self.assertEqual((changed["denied"], changed["localities"], changed["vendor"]),
                         (["TPM_OwnerClear"], [0, 2], False))
        self.ctl("policy", "web1", "--deny", "TPM2_Clear", code=rig.REFUSED)
        self.ctl("policy", "web2", code=rig.NOT_FOUND)

    def test_a_new_tpm_gets_the_banks_that_it_was_created_with(self):
        self.ctl("create", "--name", "banks", "--tpm", "2.0", "--pcr-banks", "sha384,sha256")
        banks = uuid.UUID(self.json("show", "banks")["uuid"])
        policy = frames.fields(self.attach(self.hold(banks)).load().policy)
        self.assertEqual(policy, {5: [b"\x0b\x0c"]})
        for tpm, named in (("1.2", "sha256"), ("2.0", "sm3"), ("2.0", "sha1,sha1")):
            self.ctl("create", "--name", "not", "--tpm", tpm, "--pcr-banks", named,
                     code=rig.REFUSED)

    def test_in_sequence(self):
        self.assertEqual(self.engine.commit(0, (PERMANENT, b"p1")), 1)
        self.assertEqual(self.engine.commit(1, (SAVED, b"s2")), 2)
        self.assert_state(2, {PERMANENT: b"p1", SAVED: b"s2"})
        self.assertEqual(self.engine.commit(2, (PERMANENT, b"p3"), (SAVED, None)), 3)
        self.assert_state(3, {PERMANENT: b"p3"})
        shown = self.json("show", "web1")
        self.assertEqual((shown["sequence"], shown["bytes"]), (3, 2))
        self.restart()
        self.holder = self.hold(self.web1)
        self.assert_state(3, {PERMANENT: b"p3"})

    def test_out_of_sequence(self):
        for sequence in (1, 2**64 - 1):
            self.assert_failure(self.engine.commit(sequence, (PERMANENT, b"x")), "out-of-order")
        self.assertEqual(self.engine.commit(0, (PERMANENT, b"p1")), 1)
        self.assertEqual(self.engine.commit(1, (PERMANENT, b"p2")), 2)
        for sequence in (0, 1, 3, 2**64 - 1):
            answer = self.engine.commit(sequence, (PERMANENT, b"other"))
            self.assert_failure(answer, "out-of-order")
        self.assert_failure(self.engine.commit(0, (PERMANENT, b"p1")), "out-of-order")
        self.assert_state(2, {PERMANENT: b"p2"})

    def test_a_repeat_is_answered_as_it_was(self):
        blobs = [(PERMANENT, b"p1"), (SAVED, b"s1")]
        for again in (blobs, blobs, blobs[::-1]):
            self.assertEqual(self.engine.commit(0, *again), 1)
        self.restart()
        self.holder = self.hold(self.web1)
        self.engine = self.attach(self.holder)
        self.assertEqual(self.engine.commit(0, *blobs), 1)
        self.assert_failure(self.engine.commit(0, blobs[0]), "out-of-order")
        self.assert_failure(self.engine.commit(0, blobs[0], (SAVED, None)), "out-of-order")
        self.assert_state(1, dict(blobs))

    def test_the_permanent_state_comes_first_and_stays(self):
        self.assert_failure(self.engine.commit(0, (SAVED, b"s")), "invalid-argument")
        self.assert_state(0, {})
        self.assertEqual(self.engine.commit(0, (PERMANENT, b"p")), 1)
        self.assert_failure(self.engine.commit(1, (PERMANENT, None)), "invalid-argument")
        self.assert_state(1, {PERMANENT: b"p"})

    def test_kinds(self):
        for kind in (0, 4, 255, 2**32 - 1):
            answer = self.engine.commit(0, (PERMANENT, b"p"), (kind, b"x"))
            self.assert_failure(answer, "malformed")
        twice = self.engine.commit(0, (PERMANENT, b"p"), (PERMANENT, b"q"))
        self.assert_failure(twice, "invalid-argument")
        self.assert_failure(self.engine.commit(0), "malformed")
        self.assert_failure(self.engine.commit(0, *[(PERMANENT, b"p")] * 4), "malformed")
        self.assert_state(0, {})

    def test_the_volatile_state_of_a_suspended_guest(self):
        self.assert_failure(self.engine.commit(0, (VOLATILE, b"v")), "invalid-argument")
        self.assertEqual(self.engine.commit(0, (PERMANENT, b"p"), (VOLATILE, b"v")), 1)
        self.assert_state(1, {PERMANENT: b"p", VOLATILE: b"v"})
        self.assertEqual(self.engine.commit(1, (VOLATILE, None)), 2)
        self.assert_state(2, {PERMANENT: b"p"})

    def test_all_that_was_taken_can_be_given_back(self):
        blobs = {kind: os.urandom(MAX_BLOB) for kind in (PERMANENT, VOLATILE, SAVED)}
        for sequence, blob in enumerate(blobs.items()):
            self.assertEqual(self.engine.commit(sequence, blob), sequence + 1)
        self.assert_state(3, blobs)

    def test_sizes(self):
        big = os.urandom(MAX_BLOB)
        self.assert_failure(self.engine.commit(0, (PERMANENT, big + b"x")), "too-large")
        self.assertEqual(self.engine.commit(0, (PERMANENT, big), (SAVED, big[::-1])), 1)
        # What was taken must fit into the answer that gives it back, the seed beside it (which
        # only the first load of ten seconds has).
        self.assert_state(1, {PERMANENT: big, SAVED: big[::-1]})

    def test_a_frame_beyond_the_limit_ends_the_channel(self):
        for body, payload in (frames.commit(0, (PERMANENT, bytes(8 * MAX_BLOB))),
                              frames.commit(0, (PERMANENT, bytes(2 * MAX_BLOB + 1))),
                              (bytes(1025), b"")):
            with self.assertRaises((frames.Closed, BrokenPipeError, ConnectionResetError)):
                self.engine.ask(body, payload)
            self.engine = self.attach(self.holder)
        self.assert_state(0, {})

    def test_a_payload_of_another_size(self):
        body, payload = frames.commit(0, (PERMANENT, b"12345"), (SAVED, b"67890"))
        for wrong in (b"", payload[:-1], payload + b"x"):
            self.assert_failure(self.engine.ask(body, wrong), "malformed")
        for size, erased, sent in ((0, 0, b""), (5, 1, b"12345"), (2**64 - 1, 0, b"12345")):
            blob = frames.message((1, PERMANENT), (2, size), (3, erased))
            body = frames.message((2, frames.message((1, 0), (2, blob))))
            self.assert_failure(self.engine.ask(body, sent), "malformed")
        self.assert_state(0, {})

    def test_it_is_no_administrator(self):
        self.create("web2")
        for body in (frames.status(), frames.create("web3"), frames.request(frames.REMOVE, b""),
                     frames.open_instance(self.web1.bytes), frames.attach(), b"", b"\xff" * 20):
            self.assert_failure(self.engine.ask(body), "malformed")
        self.assertEqual([one["name"] for one in self.json("list")], ["web1", "web2"])
        self.assert_state(0, {})

    def test_a_new_engine_ends_the_one_before(self):
        self.assertEqual(self.engine.commit(0, (PERMANENT, b"p1")), 1)
        before, self.engine = self.engine, self.attach(self.holder)
        self.assert_closed(before)
        self.assertEqual(self.engine.commit(1, (PERMANENT, b"p2")), 2)

    def test_one_holder(self):
        def refused(domain):
            with self.connect() as other:
                reply = other.ask(frames.open_instance(self.web1.bytes, domain))
                return frames.failure_of(reply)
        for domain in (7, 8):
            self.assert_failure(refused(domain), "in-use")
        self.holder.close()
        # The engine keeps the hold: another guest gets nothing, the same guest's next vtpmd does.
        rig.eventually(lambda: not refused(7))
        self.assert_failure(refused(8), "in-use")
        self.engine.close()
        rig.eventually(lambda: not refused(8))

    def test_an_engine_outlives_its_holder(self):
        self.holder.close()
        self.assertEqual(self.engine.commit(0, (PERMANENT, b"p1")), 1)
        self.ctl("delete", "web1", "--yes", code=rig.IN_USE)
        self.ctl("rename", "web1", "web2")
        self.assertEqual(self.engine.commit(1, (PERMANENT, b"p2")), 2)
        self.engine.close()
        rig.eventually(lambda: self.json("status")["in_use"] == 0)
        self.ctl("delete", "web2", "--yes")
        self.assert_failure(self.connect().ask(frames.open_instance(self.web1.bytes)), "not-found")

    def test_a_flood_waits_and_the_others_do_not(self):
        other = self.attach(self.hold(self.create("web2"), 8))
        self.assertEqual(other.commit(0, (PERMANENT, b"p")), 1)
        self.engine.load()
        # A megabyte is worth 65 requests, ten thousand are in advance, and 250 a second come: so
        # many megabytes take so long, on the slowest machine as well.
        began = time.monotonic()

        def flood(before):
            self.assert_failure(self.engine.ask(b"", bytes(MAX_BLOB * 2)), "malformed")
            self.assertGreater(time.monotonic() - began, (65 * before - 10_000) / 250)

        waited = []
        for i in range(172):
            flood(i)
            asked = time.monotonic()
            self.assertEqual(other.commit(1 + i, (PERMANENT, b"%d" % i)), 2 + i)
            waited.append(time.monotonic() - asked)
        # At the end the flood waits 0.26 s each time. One look is enough: the others may have to
        # wait for the machine, but not each time.
        self.assertLess(min(waited[-15:]), 0.2)
        # A new engine of the same guest does not begin afresh.
        self.engine = self.attach(self.holder)
        for i in range(172, 176):
            flood(i)
        # What it did wrong does not fill the journal: ten lines a minute, and ten in advance.
        said = self.manager.text().count("its engine's request failed")
        self.assertGreater(said, 1)
        self.assertLess(said, 12 + (time.monotonic() - began) / 6)

    def test_one_request_is_under_way(self):
        # The second is not looked at before the first is answered and the answer is taken.
        body, payload = frames.commit(0, (PERMANENT, b"p1"))
        second, second_payload = frames.commit(1, (PERMANENT, b"p2"))
        self.engine.raw(frames.frame(body, payload) + frames.frame(second, second_payload))
        self.assertEqual([self.engine.committed(self.engine.receive()) for _ in range(2)], [1, 2])

    def test_nothing_lies_open_on_the_disk(self):
        secret = os.urandom(48)
        self.engine.commit(0, (PERMANENT, secret * 100), (SAVED, secret[::-1] * 100))
        self.assertTrue({"vault.db", "vault.db-wal"} <= set(self.files()))
        for file in self.manager.state.iterdir():
            self.assertNotIn(secret, file.read_bytes())
            self.assertNotIn(secret[::-1], file.read_bytes())
        self.assertNotIn(secret.hex(), self.manager.text())


if __name__ == "__main__":
    unittest.main()
