"""A directory for which swtpm_setup and swtpm are called, as libvirt and scripts do; both are ours."""

import os
import subprocess
from pathlib import Path

import front as f
import rig

SETUP = Path(__file__).resolve().parents[3] / "config/vtpm-swtpm-setup"


class AsSwtpm(f.FrontTest):
    def setUp(self):
        super().setUp()
        # As in the package: the program under swtpm's name.
        self.program = self.directory / "swtpm"
        self.program.symlink_to(rig.PROGRAMS / "vtpm-swtpm")
        self.state = self.directory / "swtpm-state"
        self.state.mkdir()
        self.control_path = self.directory / "ctrl"
        self.own = f"manager={self.manager.socket},engine={rig.PROGRAMS}/vtpm-swtpm-engine,run-dir={self.directory}"
        # What swtpm_setup starts, where this test has what else it needs.
        programs = self.directory / "bin"
        programs.mkdir()
        started = programs / "vtpm-swtpm"
        started.write_text(f'#!/bin/sh\necho "$@" >>{self.directory}/started\nexec {rig.PROGRAMS}/vtpm-swtpm "$@" '
                           f'--engine {rig.PROGRAMS}/vtpm-swtpm-engine --run-dir {self.directory}\n', encoding="ascii")
        started.chmod(0o755)
        self.path = f"{programs}:{rig.PROGRAMS}:{os.environ['PATH']}"

    def set_up(self, *options, code=0):
        """swtpm_setup for the state directory; what it said."""
        environment = f.environment() | {"PATH": self.path, "XEN_VTPM_SOCKET": str(self.manager.socket)}
        done = subprocess.run([SETUP, "--tpmstate", self.state, *options], env=environment, text=True, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertEqual(done.returncode, code, done.stdout)
        return done.stdout

    def arguments(self, *options):
        return [self.program, "socket", "--tpmstate", f"dir={self.state}", "--xen-vtpm", self.own, *options]

    def start(self, *options, tpm="--tpm2", **more):
        """A process whose control socket is there."""
        process = subprocess.Popen(self.arguments("--ctrl", f"type=unixio,path={self.control_path},mode=0600", tpm, *options),
                                   env=f.environment(), stderr=subprocess.PIPE, **more)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        rig.eventually(lambda: process.poll() is not None or rig.somebody_listens(self.control_path))
        self.assertIsNone(process.poll(), "it ended")
        return process

    def refused(self, *options):
        done = subprocess.run(self.arguments(*options), env=f.environment(), text=True, check=False, timeout=f.PATIENCE,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.assertNotEqual(done.returncode, 0, done.stdout)
        return done.stdout

    def peer(self):
        peer = f.Control(self.control_path)
        self.addCleanup(peer.close)
        return peer

    def data_of(self, control):
        data = control.data()
        self.addCleanup(data.close)
        return data


if __name__ == "__main__":
    raise SystemExit("not a test: run a *_test.py")
