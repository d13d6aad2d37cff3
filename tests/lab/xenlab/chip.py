"""The host's chip: a swtpm process whose NV memory lives outside the machine."""

import shutil
from pathlib import Path

from .process import Process


class Chip:
    """A TPM 2.0 on a mainboard. Its state outlives boots, as the real one's does."""

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
        process = Process(["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.directory}",
                           "--ctrl", f"type=unixio,path={socket}", "--terminate"], log)
        process.wait_for_socket(socket)
        return process

