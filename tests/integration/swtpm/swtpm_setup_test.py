"""swtpm_setup's command line: which TPM it makes, when it makes none, and whose PCR banks it changes."""

import os
import unittest

import front as f
from as_swtpm import AsSwtpm


class Setup(AsSwtpm):
    def reconfigure(self, banks, code=0):
        """As libvirt does before each start of a domain with <active_pcr_banks>; what is in the log of it."""
        log = self.directory / "reconfigure.log"
        log.unlink(missing_ok=True)
        self.assertEqual(self.set_up("--tpm2", "--tpm-state", self.state, "--logfile", log, "--pcr-banks", banks,
                                     "--reconfigure", code=code), "")
        return log.read_text()

    def machine_with(self, banks, then=lambda data: None):
        """A life of the machine, whose TPM has these banks."""
        process = self.start("--flags", "not-need-init")
        control = self.peer()
        data = self.data_of(control)
        self.assertEqual(data.code(f.STARTUP), 0)
        self.assertEqual(f.pcr_banks(data), set(banks))
        then(data)
        self.assertEqual(control.ask(f.SHUTDOWN), f.SUCCESS)
        process.wait(f.PATIENCE)

    def test_one_tpm_a_directory(self):
        self.set_up("--tpm2")
        self.assertIn("has a TPM already", self.set_up("--tpm2", code=1))
        self.set_up("--tpm2", "--not-overwrite")
        self.assertIn("vtpmctl delete", self.set_up("--tpm2", "--overwrite", code=1))
        self.set_up("--tpm2", "--overwrite", "--not-overwrite")  # as with swtpm: what is there stays
        self.assertEqual(len(self.json("list")), 1)
        self.set_up()  # a TPM 1.2 has a file of its own
        self.assertEqual(len(self.json("list")), 2)

    def test_overwrite_where_nothing_is(self):
        """What libvirt calls for a domain that comes with its state, into a directory that it has just made."""
        log = self.directory / "setup.log"
        incoming = ("--tpm2", "--tpm-state", self.state, "--logfile", log, "--overwrite")
        self.assertEqual(self.set_up(*incoming), "")
        one, = self.json("list")
        self.assertEqual((self.state / "tpm2-00.permall").read_text(), f"xen-vtpm-instance {one['uuid']}\n")
        self.assertIn("is in the vault", log.read_text())
        self.assertEqual(self.set_up(*incoming, code=1), "")
        self.assertIn(f"--overwrite would destroy: that is done with vtpmctl delete {one['uuid']}", log.read_text())
        self.assertEqual(self.json("list"), [one])
        # One that was being made is not one that is there.
        (self.state / "tpm2-00.permall").rename(self.state / ".tpm2-00.permall.pending")
        self.set_up(*incoming)
        self.assertEqual(self.json("list"), [one])
        foreign = self.directory / "swtpms"
        foreign.mkdir()
        (foreign / "tpm2-00.permall").write_bytes(bytes(1386))
        self.assertIn("import-swtpm", self.set_up("--tpm2", "--tpmstate", foreign, "--overwrite", code=1))
        self.assertEqual((foreign / "tpm2-00.permall").read_bytes(), bytes(1386))

    def test_refusals_are_in_the_log(self):
        """libvirt shows its user the name of that file, and nothing else of what went wrong."""
        self.set_up("--tpm2")
        self.manager.stop()
        nowhere = self.directory / "nowhere"
        last = self.directory / "last.log"
        for number, (options, said) in enumerate((
                (("--no-such", "--logfile", "LOG"), "--no-such is not served"),
                (("--logfile", "LOG", "--no-such"), "--no-such is not served"),
                (("--no-such", "--nor-this", "--logfile=LOG"), "--no-such is not served"),
                (("--create-config-files=root", "--logfile", "LOG"), "--create-config-files is not served"),
                (("--logfile", "LOG", "--vmid"), "--vmid: what?"),
                (("--tpmstate", nowhere, "--logfile", "LOG"), "no such directory"),
                (("--tpm2", "--overwrite", "--logfile", "LOG"), "cannot be had from the vault"),
                (("--logfile", last, "--logfile", "LOG", "--no-such"), "--no-such is not served"))):
            with self.subTest(options=options):
                log = self.directory / f"{number}.log"
                words = [str(log) if word == "LOG" else str(word).replace("=LOG", f"={log}") for word in options]
                self.assertEqual(self.set_up(*words, code=1), "")
                self.assertIn(said, log.read_text())
        self.assertFalse(last.exists())

    def test_pcr_banks_of_one_that_never_had_power(self):
        self.set_up("--tpm2")
        self.ctl("policy", self.json("list")[0]["uuid"], "--deny", "TPM2_Clear")
        before = len(self.json("log"))
        self.assertEqual(self.reconfigure("sha256"), "")  # it would have had that one
        self.assertEqual(len(self.json("log")), before)
        self.assertIn("sha256, sha384", self.reconfigure("sha384,sha256"))
        one, = self.json("list")
        self.assertEqual(one["sequence"], 0, "it was made for that")
        self.assertEqual(self.json("policy", one["uuid"])["denied"], ["TPM2_Clear"])
        self.machine_with({"sha256", "sha384"})

    def test_pcr_banks_of_one_that_has_lived(self):
        self.set_up("--tpm2")

        def write(data):
            self.assertEqual(data.code(f.nv_define(8)), 0)
            self.assertEqual(data.code(f.nv_write(b"lasting!")), 0)
            self.assertIn("is in use", self.reconfigure("sha384", code=1))
        self.machine_with({"sha256"}, write)
        self.assertIn("sha1, sha512", self.reconfigure("sha512,sha1"))
        self.machine_with({"sha1", "sha512"}, lambda data: self.assertEqual(data.transmit(f.nv_read(8))[16:24], b"lasting!"))
        # What firmware has chosen meanwhile does not stay.
        firmwares = f.v20(0x12b, f.session(0x4000000c, bytes.fromhex("00000004 000403000000 000b03ffffff 000c03ffffff 000d03000000")),
                          tag=0x8002)
        self.machine_with({"sha1", "sha512"}, lambda data: self.assertEqual(data.code(firmwares), 0))
        self.assertNotEqual(self.reconfigure("sha1,sha512"), "")
        self.machine_with({"sha1", "sha512"})
        self.assertNotIn("from the next start", self.reconfigure("sha1,sha512"))  # nothing to do
        self.machine_with({"sha1", "sha512"})

    def test_pcr_banks_that_are_not_to_be_had(self):
        self.assertIn("there is no TPM", self.reconfigure("sha256", code=1))
        self.set_up()
        self.set_up("--tpm2")
        self.assertIn("--tpm2", self.set_up("--pcr-banks", "sha256", "--reconfigure", code=1))
        self.assertIn("--pcr-banks", self.set_up("--tpm2", "--reconfigure", code=1))
        for banks in ("sm3_256", "sha256,sha256", "sha256 sha1"):
            self.assertIn("bank", self.reconfigure(banks, code=1))
        self.machine_with({"sha256"})
        self.ctl("policy", (self.state / "tpm2-00.permall").read_text().split()[1], "--deny", "TPM2_PCR_Allocate")
        self.assertIn("the TPM does not take these banks", self.reconfigure("sha384", code=1))
        left = self.state / "tpm2-00.volatilestate"
        left.write_bytes(b"a ticket")
        started = (self.directory / "started").read_text()
        self.assertIn("goes on from", self.reconfigure("sha384", code=1))
        left.unlink()
        for path, mode, uid in ((self.state, 0o770, 0), (self.state / "tpm2-00.permall", 0o666, 0),
                                (self.state, 0o700, 1), (self.state / "tpm2-00.permall", 0o600, 1)):
            was = path.stat().st_mode
            path.chmod(mode)
            os.chown(path, uid, 0)
            self.assertIn("nobody else able to write", self.reconfigure("sha384", code=1))
            path.chmod(was)
            os.chown(path, 0, 0)
        (self.state / "tpm2-00.permall").rename(self.directory / "moved")
        (self.state / "tpm2-00.permall").symlink_to(self.directory / "moved")
        self.assertIn("nobody else able to write", self.reconfigure("sha384", code=1))
        (self.state / "tpm2-00.permall").unlink()
        (self.state / "tpm2-00.permall").write_bytes(bytes(1386))
        self.assertIn("a state of swtpm's", self.reconfigure("sha384", code=1))
        self.assertEqual((self.directory / "started").read_text(), started)

    def test_an_interrupted_setup_is_made_good(self):
        self.set_up("--tpm2")
        # Killed before the last step, and before the one that made the TPM.
        pending = self.state / ".tpm2-00.permall.pending"
        (self.state / "tpm2-00.permall").rename(pending)
        self.set_up("--tpm2")
        self.assertEqual(len(self.json("list")), 1)
        pending.write_bytes((self.state / "tpm2-00.permall").read_bytes())
        self.set_up("--tpm2", "--not-overwrite")
        self.assertFalse(pending.exists())
        uuid = "99999999-8888-4777-8666-555555555555"
        (self.state / "tpm2-00.permall").unlink()
        pending.write_text(f"xen-vtpm-instance {uuid}\n")
        self.set_up("--tpm2")
        self.assertIn(uuid, [row["uuid"] for row in self.json("list")])

    def test_a_tpm_that_is_gone_is_not_made_anew(self):
        self.set_up("--tpm2")
        self.ctl("delete", self.json("list")[0]["uuid"], "--yes")
        self.set_up("--tpm2", "--not-overwrite", code=1)
        self.assertEqual(self.json("list"), [])
        self.assertIn("cannot start", self.refused("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2"))

    def test_unreadable_is_not_new(self):
        """A disk that is not mounted, say."""
        self.set_up("--tpm2")
        own = self.state / "tpm2-00.permall"
        own.rename(self.directory / "elsewhere")
        own.symlink_to(self.directory / "not-mounted")
        self.assertIn("leads nowhere", self.set_up("--tpm2", "--not-overwrite", code=1))
        self.assertEqual(len(self.json("list")), 1)
        self.refused("--ctrl", f"type=unixio,path={self.control_path}", "--tpm2")

    def test_names_of_domains(self):
        for number, (vm, shown) in enumerate((("web 1", "web-1-"), ("Überwachung", "berwachung-"), ("..x", "x-"), ("日本", ""))):
            state = self.directory / f"named{number}"
            state.mkdir()
            self.set_up("--tpm2", "--tpmstate", state, "--vmid", f"{vm}:1")
            self.assertIn(True, [row["name"].startswith(shown) for row in self.json("list")])
        self.assertEqual(len(self.json("list")), 4)


if __name__ == "__main__":
    unittest.main()
