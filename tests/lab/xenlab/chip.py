"""The host's chip: a swtpm process whose NV memory lives outside the machine."""

import shutil
import socket
import tempfile
from pathlib import Path

from .process import Process
from .tpm12 import Tpm12


class Chip:
    """A TPM 2.0 on a mainboard. Its state outlives boots, as the real one's does."""

    GENERATION = ["--tpm2"]

    def __init__(self, directory: Path) -> None:
        """Uses the state in `directory`; a directory that is not there becomes a chip fresh from the factory."""
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory

    def copy(self, directory: Path) -> "Chip":
        """Copies the chip as it is now: to bring it back later is a chip that was rolled back."""
        shutil.copytree(self.directory, directory)
        return Chip(directory)

    def restore(self, saved: "Chip") -> None:
        """Puts the state of a copy back. The machine must be off."""
        shutil.rmtree(self.directory)
        shutil.copytree(saved.directory, self.directory)

    def power_on(self, socket: Path, log: Path) -> Process:
        """Starts swtpm for one boot; it ends when QEMU closes the connection."""
        process = Process(["swtpm", "socket", *self.GENERATION, "--tpmstate", f"dir={self.directory}",
                           "--ctrl", f"type=unixio,path={socket}", "--terminate"], log)
        process.wait_for_socket(socket)
        return process



class Chip12(Chip):
    """A TPM 1.2, as its maker delivers it: with an endorsement key and without an owner."""

    GENERATION: list[str] = []

    def __init__(self, directory: Path) -> None:
        """Uses the state in `directory`; a directory that is not there becomes a chip fresh from the factory."""
        fresh = not directory.exists()
        super().__init__(directory)
        if fresh:
            self._make_endorsement_key()

    def _make_endorsement_key(self) -> None:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / "server"
            process = Process(["swtpm", "socket", "--tpmstate", f"dir={self.directory}",
                               "--server", f"type=unixio,path={path}",
                               "--flags", "not-need-init,startup-clear"], Path(place) / "log")
            process.wait_for_socket(path)
            with socket.socket(socket.AF_UNIX) as chip:
                chip.connect(str(path))

                def send(command: bytes) -> bytes:
                    chip.sendall(command)
                    return chip.recv(4096)

                Tpm12(send).ek_modulus()  # makes the key
            process.kill()
