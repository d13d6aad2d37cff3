"""vtpmctl's commands, their output and their exit codes, as vtpmctl(8) has them."""

import json
import re
import socket
import subprocess
import threading
import unittest
import uuid

import frames
import rig

NO_UUID = "11111111-2222-4333-8444-555555555555"


class Commands(rig.RigTest):
    def test_create_prints_the_line_for_xl(self):
        printed = self.ctl("create", "--name", "web1")
        self.assertRegex(printed, r'^vtpm=\["backend=0,uuid=[0-9a-f-]{36}"\]\n$')
        self.assertEqual(printed.strip(), self.json("show", "web1")["xl"])

    def test_create_takes_a_version_and_a_uuid(self):
        made = self.json("create", "--name", "web1", "--tpm", "2.0", "--uuid", NO_UUID)
        self.assertEqual(made["uuid"], NO_UUID)
        self.assertEqual(made["tpm"], "2.0")
        self.assertEqual(made["state"], "live")
        self.assertEqual(made["sequence"], 0)
        self.assertIsNone(made["committed"])
        self.assertFalse(made["in_use"])
        self.assertEqual(self.json("create", "--name", "web2")["tpm"], "2.0")

    def test_create_takes_no_name_or_uuid_twice(self):
        self.create("web1", "--uuid", NO_UUID)
        self.assertIn("web1", self.ctl("create", "--name", "web1", code=rig.REFUSED))
        self.assertIn(NO_UUID, self.ctl("create", "--name", "web2", "--uuid", NO_UUID,
                                        code=rig.REFUSED))
        self.ctl("delete", "web1", "--yes")
        self.assertIn("deleted", self.ctl("create", "--name", "web2", "--uuid", NO_UUID,
                                          code=rig.REFUSED))
        self.assertEqual(self.json("list"), [])
        self.create("web1")  # a name is free again

    def test_bad_names_are_refused(self):
        for name in (".hidden", "a b", "a/b", "a\nb", "\u00e9", "a" * 65, NO_UUID):
            with self.subTest(name=name):
                self.ctl("create", f"--name={name}", code=rig.REFUSED)
        self.ctl("create", "--name=-x", code=rig.REFUSED)
        self.ctl("create", "--name=", code=rig.BAD_COMMAND)
        self.assertEqual(self.json("list"), [])
        self.create("a" * 64)

    def test_bad_uuids_are_refused(self):
        for text in ("x", NO_UUID[:-1], NO_UUID + "0", NO_UUID.replace("-", "0"),
                     NO_UUID[:-1] + "g", str(uuid.UUID(int=0))):
            with self.subTest(uuid=text):
                self.ctl("create", "--name", "web1", "--uuid", text, code=rig.REFUSED)
        self.assertEqual(self.json("list"), [])

    def test_list_has_all_by_name(self):
        for name in ("c", "a", "b"):
            self.create(name)
        lines = self.ctl("list").splitlines()
        self.assertEqual(lines[0].split()[:4], ["NAME", "UUID", "TPM", "STATE"])
        self.assertEqual([line.split()[0] for line in lines[1:]], ["a", "b", "c"])
        self.assertEqual([one["name"] for one in self.json("list")], ["a", "b", "c"])

    def test_list_is_more_than_one_page(self):
        with self.connect() as peer:
            for i in range(501):
                self.assertIsNone(frames.failure_of(peer.ask(frames.create(f"g{i:03}"))))
            page = frames.fields(peer.ask(frames.request(frames.LIST)))[4][0]
            self.assertEqual(len(frames.fields(page)[1]), 500)
        self.assertEqual([one["name"] for one in self.json("list")],
                         [f"g{i:03}" for i in range(501)])

    def test_selectors(self):
        one = self.create("web1", "--uuid", "abcd1111-0000-4000-8000-000000000001")
        self.create("web2", "--uuid", "abcd1111-0000-4000-8000-000000000002")
        self.create("abcd", "--uuid", "ffff1111-0000-4000-8000-000000000003")
        for selector in ("web1", one, str(one).upper()):
            self.assertEqual(self.json("show", selector)["name"], "web1")
        self.assertEqual(self.json("show", "ffff")["name"], "abcd")
        self.assertEqual(self.json("show", "abcd")["name"], "abcd", "a name goes before a prefix")
        self.assertIn("several", self.ctl("show", "abcd1", code=rig.REFUSED))
        for selector in ("fff", "web", "", NO_UUID, "zzzz", "%", "----"):
            with self.subTest(selector=selector):
                self.ctl("show", "--", selector, code=rig.NOT_FOUND)

    def test_rename(self):
        which = self.create("web1")
        self.create("web2")
        self.assertEqual(self.json("rename", "web1", "web3")["uuid"], str(which))
        self.ctl("show", "web1", code=rig.NOT_FOUND)
        self.ctl("rename", "web1", "web4", code=rig.NOT_FOUND)
        self.ctl("rename", "web3", "web2", code=rig.REFUSED)
        self.ctl("rename", "web3", "a b", code=rig.REFUSED)
        self.restart()
        self.assertEqual(self.json("show", which)["name"], "web3")

    def test_delete_wants_yes(self):
        self.create("web1")
        self.assertIn("--yes", self.ctl("delete", "web1", code=rig.BAD_COMMAND))
        self.assertEqual(len(self.json("list")), 1)
        self.assertEqual(self.json("delete", "web1", "--yes")["state"], "deleted")
        self.assertEqual(self.json("list"), [])
        self.ctl("delete", "web1", "--yes", code=rig.NOT_FOUND)

    def test_what_is_held_is_not_deleted(self):
        which = self.create("web1")
        holder = self.hold(which, domain=12)
        self.assertIn("domain 12", self.ctl("delete", "web1", "--yes", code=rig.IN_USE))
        shown = self.json("show", "web1")
        self.assertEqual((shown["in_use"], shown["domain"], shown["device"]), (True, 12, 0))
        self.assertIn("domain 12", self.ctl("list"))
        holder.close()
        rig.eventually(lambda: not self.json("show", "web1")["in_use"])
        self.ctl("delete", "web1", "--yes")

    def test_status(self):
        self.create("web1")
        holder = self.hold(self.create("web2"))
        status = self.json("status")
        self.assertEqual(status["state"], "open")
        self.assertNotIn("reason", status)
        self.assertEqual((status["instances"], status["in_use"]), (2, 1))
        self.assertEqual(status["tcti"], self.chip.tcti)
        self.assertIsNone(status["last_commit"])
        self.attach(holder).commit(0, (frames.PERMANENT, b"state"))
        self.assertRegex(self.json("status")["last_commit"], r"^20\d\d-\d\d-\d\dT[\d:]{8}Z$")
        self.assertTrue(re.search(r"^state +open$", self.ctl("status"), re.MULTILINE))

    def test_doctor_finds_the_manager(self):
        # Xen and the units are not here, so it has something to complain about.
        run = subprocess.run([rig.VTPMCTL, "--json", "--socket", self.manager.socket, "doctor"],
                             capture_output=True, text=True, timeout=60, check=False)
        found = {one["check"]: one for one in json.loads(run.stdout)}
        self.assertEqual(found["vtpmmgrd"]["result"], "ok")
        self.assertEqual(found["vault"]["result"], "ok")
        self.assertEqual(found["recovery"]["result"], "warning")
        problems = [one for one in found.values() if one["result"] == "PROBLEM"]
        self.assertEqual(run.returncode, 1 if problems else 0)

    def test_wrong_command_lines(self):
        for line in ((), ("destroy",), ("create",), ("create", "--name", "a", "--tpm", "3.0"),
                     ("show",), ("rename", "a"), ("list", "extra"), ("status", "--wrong")):
            with self.subTest(line=line):
                self.ctl(*line, code=rig.BAD_COMMAND)
        self.assertEqual(self.json("list"), [])

    def test_options_may_follow_the_command(self):
        self.create("web1")
        run = subprocess.run([rig.VTPMCTL, "list", "--json", "--socket", self.manager.socket],
                             capture_output=True, text=True, timeout=60, check=True)
        self.assertEqual(json.loads(run.stdout)[0]["name"], "web1")


class Manager(rig.RigTest):
    def test_no_manager(self):
        self.assertEqual(self.manager.stop(), 0)
        for line in (("list",), ("status",), ("setup",), ("delete", "a", "--yes")):
            self.assertIn("vtpmmgrd", self.ctl(*line, code=rig.NO_MANAGER))
        self.manager.socket.unlink(missing_ok=True)
        self.ctl("list", code=rig.NO_MANAGER)

    def answer_with(self, serve):
        """A false manager that does this with its only connection."""
        self.manager.stop()
        self.manager.socket.unlink(missing_ok=True)
        fake = socket.socket(socket.AF_UNIX)
        self.addCleanup(fake.close)
        fake.bind(str(self.manager.socket))
        fake.listen()

        def run():
            with fake.accept()[0] as connection:
                serve(connection)
        thread = threading.Thread(target=run)
        thread.start()
        self.addCleanup(thread.join)

    def test_a_manager_that_hangs_up(self):
        self.answer_with(lambda connection: None)
        self.ctl("list", code=rig.NO_MANAGER)

    def test_a_manager_that_dies_over_a_request(self):
        self.answer_with(lambda connection: connection.recv(1 << 20))
        self.ctl("list", code=rig.NO_MANAGER)

    def test_a_manager_that_talks_nonsense(self):
        for what, answer in {"no frame": b"x" * 100, "no message": frames.frame(b"\xff" * 9),
                             "too much": frames.frame(b"")[:4] + b"\x40" + bytes(7)}.items():
            with self.subTest(what):
                self.answer_with(lambda c, answer=answer: (c.recv(1 << 20), c.sendall(answer)))
                self.ctl("list", code=rig.REFUSED)


if __name__ == "__main__":
    unittest.main()
