"""Builds modules for the guests' kernel, which is the dom0's, with its headers from apt."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from . import cache
from .say import timed


def module(name: str, kernel: str, recipe: str, put_source: Callable[[Path], None]) -> Path:
    """Returns NAME.ko; `put_source` fills a directory, and `recipe` changes when that does.

    Kept, for apt has a kernel's headers only for some time.
    """
    def build(directory: Path) -> None:
        with timed(f"building {name} for {kernel}"):
            headers = _headers(kernel)
            source = directory / "source"
            source.mkdir()
            put_source(source)
            run(["make", "-C", headers, f"M={source}", "modules"], f"{name} could not be built")
        shutil.move(source / f"{name}.ko", directory)
        shutil.rmtree(source)

    return cache.get(f"module-{name}", cache.key_of(kernel, recipe), build) / f"{name}.ko"


def _headers(kernel: str) -> Path:
    headers = Path(f"/usr/src/linux-headers-{kernel}")
    if not headers.is_dir():
        subprocess.run(["apt-get", "-qq", "update"], stdout=subprocess.DEVNULL, check=False)
        run(["apt-get", "-qy", "install", "--no-install-recommends", headers.name, "make"],
            f"{headers.name} is not to be had; if apt has a newer kernel only, then remove {cache.root()}/"
            "tree-*, and the lab is built with that one")
    return headers


def run(command: list[str | Path], otherwise: str, cwd: Path | None = None) -> None:
    """Runs a command that must succeed."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, cwd=cwd)
    if done.returncode != 0:
        raise RuntimeError(f"{otherwise}:\n{done.stdout[-3000:]}")
