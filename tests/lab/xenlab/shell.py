"""Boots a host and attaches a person (or a pipe) to its console: `python3 -m xenlab.shell`."""

import os
import select
import shutil
import socket
import sys
import tempfile
import termios
import tty
from pathlib import Path

from . import cache
from .chip import Chip
from .dom0image import dom0_image
from .lab import Lab, copy_disk
from .product import NoProduct, find_deb, installed
from .say import say, timed

LEAVE = 0x1C  # Ctrl-\, so that Ctrl-] stays what leaves a guest's console
HELP = """
You are root in the dom0 of a Xen 4.17. The host's chip is /dev/tpm0. Guests: vtpmctl create --name web1 --tpm 1.2, put the line
that it prints into /root/pv.cfg (or pvh.cfg), xl create /root/pv.cfg, xl console pv (type sh for a
shell there; Ctrl-] leaves it).
Leave the lab with Ctrl-\\ or 'poweroff'; its disk and its chip are thrown away.
"""


def _host(directory: Path) -> tuple[Lab, str]:
    """Makes a host with the product on it where that can be had; returns it and what to tell."""
    image = dom0_image()
    source, news = None, "xen-vtpm is installed and set up: vtpmctl status"
    try:
        source = installed(image, find_deb(directory))
    except NoProduct as error:
        news = f"xen-vtpm is NOT installed: {error}"
    copy_disk(source / "disk.img" if source else image.disk, directory / "disk.img")
    chip = Chip(source / "chip").copy(directory / "chip") if source else Chip(directory / "chip")
    return Lab(image, directory / "disk.img", chip, directory), news


def _attach(console: socket.socket) -> None:
    """Carries bytes between the console and our terminal until someone leaves."""
    keyboard = sys.stdin.fileno()
    sources = [console, keyboard]
    while True:
        for ready in select.select(sources, [], [])[0]:
            data = console.recv(4096) if ready is console else os.read(keyboard, 4096)
            if ready is console:
                if not data:
                    return
                os.write(sys.stdout.fileno(), data)
            elif LEAVE in data:
                return
            elif data:
                console.sendall(data)
            else:
                sources.remove(keyboard)


def _converse(lab: Lab) -> None:
    """Gives the console to the terminal, which is in raw mode meanwhile."""
    console = socket.socket(socket.AF_UNIX)
    console.connect(str(lab.machine.console_socket))
    console.sendall(b"\n")
    if not sys.stdin.isatty():
        _attach(console)
        return
    size = os.get_terminal_size()
    console.sendall(f"stty rows {size.lines} columns {size.columns}; clear\n".encode())
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setraw(sys.stdin)
        _attach(console)
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def main() -> int:
    """Boots, attaches, throws away."""
    directory = Path(tempfile.mkdtemp(prefix="shell-", dir=cache.root()))
    lab = None
    try:
        lab, news = _host(directory)
        with timed("booting"):
            lab.boot(cpus=1)
        say(news)
        print(HELP, flush=True)
        _converse(lab)
    finally:
        if lab is not None:
            lab.close()
        shutil.rmtree(directory)
    print("\nleft the lab", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
