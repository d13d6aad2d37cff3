"""swtpm's own test scripts, unmodified, on our swtpm: those about the protocol, state blobs and keys.

They come from Debian's source package of swtpm, fetched by apt, or from VTPM_SWTPM_TESTS (its directory `tests`). Where
they cannot be had, this is skipped. As root; `long`, since it needs a network.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import front as f
import rig

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "lab"))
from xenlab import sources  # noqa: E402

SETUP = Path(__file__).resolve().parents[3] / "config/vtpm-swtpm-setup"
SKIPPED = 77
PROTOCOL = """getcap init locality hashing hashing2 setbuffersize wrongorder tpm_probe swtpm_bios
    tpm2_getcap tpm2_init tpm2_locality tpm2_hashing tpm2_hashing2 tpm2_hashing3 tpm2_setbuffersize tpm2_wrongorder
    tpm2_probe tpm2_savestate tpm2_swtpm_bios""".split()
BLOBS = "volatilestate save_load_state tpm2_volatilestate tpm2_save_load_state tpm2_save_load_state_da_timeout".split()
KEYS = "encrypted_state save_load_encrypted_state tpm2_save_load_encrypted_state tpm2_encrypted_state".split()
# Where ours is different on purpose: what the script says then, and why.
NO_BYTES_IN_LOGS = "Counted 0 occurrences of pattern '^ [[:print:]]+$' in logfile"
KEYS_ARE_THE_VAULTS = "Test 1: Ok"  # and then that a wrong key is to be refused
DIFFERENT = {"wrongorder": NO_BYTES_IN_LOGS, "save_load_encrypted_state": KEYS_ARE_THE_VAULTS,
             "tpm2_save_load_encrypted_state": KEYS_ARE_THE_VAULTS}


def fetched(directory):
    """The tests of Debian's source package; None: apt has it not."""
    if given := os.environ.get("VTPM_SWTPM_TESTS"):
        return Path(given)
    lists = directory / "lists"
    (lists / "partial").mkdir(parents=True)
    list_file = directory / "sources.list"
    list_file.write_text("".join(f"deb-src {line.removeprefix('deb ')}\n" for line in sources.deb_lines()), encoding="ascii")
    apt = ["apt-get", "-qq", "-o", f"Dir::Etc::sourcelist={list_file}", "-o", "Dir::Etc::sourceparts=/dev/null",
           "-o", f"Dir::State::lists={lists}"]
    for command in (["update"], ["source", "--download-only", "swtpm"]):
        if subprocess.run([*apt, *command], cwd=directory, check=False, capture_output=True).returncode != 0:
            return None
    archive = next(directory.glob("swtpm_*.orig.tar.*"))
    subprocess.run(["tar", "-xf", archive, "-C", directory], check=True)
    return next(directory.glob("swtpm-*/tests"))


class Conformance(f.FrontTest):
    scripts: Path

    def setUp(self):
        super().setUp()
        (self.directory / "real").mkdir()
        (self.directory / "real/swtpm").symlink_to(rig.PROGRAMS / "vtpm-swtpm")
        own = f"manager={self.manager.socket},engine={rig.PROGRAMS}/vtpm-swtpm-engine,run-dir={self.directory}"
        # The scripts begin with an empty directory, in which swtpm would make a TPM. Ours is made by swtpm_setup.
        self.adapter = self.directory / "swtpm"
        self.adapter.write_text(f"""#!/bin/bash
export LD_PRELOAD={f.environment().get("LD_PRELOAD", "")}
state=$TPM_PATH version=
before=
for word in "$@"; do
    case $word in
        dir=*|backend-uri=dir://*) [ "$before" != --tpmstate ] || {{ state=${{word#*dir}}; state=${{state#=}}; state=${{state#://}}; state=${{state%%,*}}; }} ;;
        --tpm2) version=--tpm2 ;;
    esac
    before=$word
done
case " $* " in
    *" socket "*"--ctrl "*|*" socket "*"--server "*)
        XEN_VTPM_SOCKET={self.manager.socket} PATH={rig.PROGRAMS}:$PATH {SETUP} --tpmstate "$state" $version ${{version:+--pcr-banks sha1,sha256,sha384,sha512}} --not-overwrite >/dev/null || exit 1
        set -- "$@" --xen-vtpm {own} ;;
esac
exec {self.directory}/real/swtpm "$@"
""", encoding="ascii")
        self.adapter.chmod(0o755)

    def run_script(self, name):
        environment = os.environ | {
            "SWTPM_EXE": str(self.adapter), "SWTPM_IOCTL": shutil.which("swtpm_ioctl"), "SWTPM_BIOS": shutil.which("swtpm_bios"),
            "SWTPM_SETUP": str(SETUP), "SWTPM_INTERFACE": "unix+unix", "ROOT": str(self.scripts.parent)}
        done = subprocess.run(["bash", f"_test_{name}"], cwd=self.scripts, env=environment, text=True, check=False,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
        self.reap()
        said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
        if name in DIFFERENT:
            self.assertIn(DIFFERENT[name], said)
            return
        self.assertEqual(done.returncode, 0, said[-3000:])

    @staticmethod
    def reap():
        """The engines of killed fronts: until then the kernel counts them for their seat's next one."""
        try:
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                pass
        except ChildProcessError:
            pass

    def test_scripts(self):
        for name in PROTOCOL + BLOBS + KEYS:
            with self.subTest(script=name):
                self.run_script(name)


if __name__ == "__main__":
    if shutil.which("swtpm_ioctl") is None or shutil.which("socat") is None:
        subprocess.run(["apt-get", "-qqy", "install", "--no-install-recommends", "swtpm-tools", "socat"], check=False,
                       stdout=subprocess.DEVNULL, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    with tempfile.TemporaryDirectory() as place:
        found = fetched(Path(place))
        if found is None:
            print("apt does not have swtpm's source package here")
            sys.exit(SKIPPED)
        Conformance.scripts = found
        unittest.main()
