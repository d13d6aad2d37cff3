"""One boot of the emulated machine: the QEMU process, its chip and its console."""

from pathlib import Path

from .chip import Chip
from .dom0image import Dom0Image
from .process import Process

RAM_MIB = 3072
DOM0_MIB = 1024


class Machine:
    """The machine while it is switched on."""

    def __init__(self, image: Dom0Image, disks: list[Path], chip: Chip | None, directory: Path,
                 write_log: Path | None, cpus: int) -> None:
        """Switches on. `directory` gets sockets and logs; its path must be short (a socket's name is limited).

        write_log: gets what is written to the first disk, which is the dom0's.
        """
        self.console_log = directory / "console.log"
        self.console_socket = directory / "console"
        self.agent_socket = directory / "agent"
        self._chip_process: Process | None = None
        arguments = _machine_arguments(image, cpus) + self._port_arguments()
        for number, disk in enumerate(disks):
            arguments += _disk_arguments(f"disk{number}", disk, write_log if number == 0 else None)
        if chip is not None:
            self._chip_process = chip.power_on(directory / "chip", directory / "swtpm.log")
            arguments += ["-chardev", f"socket,id=chip,path={directory / 'chip'}",
                          "-tpmdev", "emulator,id=tpm0,chardev=chip", "-device", "tpm-tis,tpmdev=tpm0"]
        self._qemu = Process(arguments, directory / "qemu.log")
        self._qemu.wait_for_socket(self.agent_socket)

    def _port_arguments(self) -> list[str]:
        return ["-chardev", f"socket,id=console,path={self.console_socket},server=on,wait=off,logfile={self.console_log}",
                "-serial", "chardev:console",
                "-chardev", f"socket,id=agent,path={self.agent_socket},server=on,wait=off",
                "-device", "virtio-serial-pci", "-device", "virtserialport,chardev=agent,name=xenlab.agent"]

    def wait_off(self, timeout: float) -> bool:
        """Waits for the machine to switch itself off."""
        if not self._qemu.wait(timeout):
            return False
        self._wait_chip()
        return True

    def running(self) -> bool:
        """Tells whether QEMU still runs."""
        return not self._qemu.wait(0)

    def printed(self) -> int:
        """Returns how many bytes the console has printed."""
        return self.console_log.stat().st_size if self.console_log.exists() else 0

    def kill(self) -> None:
        """Takes the power away."""
        self._qemu.kill()
        self._wait_chip()

    def hang_chip(self, hang: bool) -> None:
        """Has the chip answer nothing, or go on where it was."""
        if self._chip_process is not None:
            self._chip_process.stop() if hang else self._chip_process.go_on()

    def _wait_chip(self) -> None:
        if self._chip_process is not None and not self._chip_process.wait(10):
            self._chip_process.kill()

    def console_tail(self, lines: int = 40) -> str:
        """Returns the last lines of the console of Xen and the dom0."""
        if not self.console_log.exists():
            return ""
        text = self.console_log.read_text(encoding="utf-8", errors="replace")
        return "\n".join([line for line in text.replace("\r", "").splitlines() if line][-lines:])


def _machine_arguments(image: Dom0Image, cpus: int) -> list[str]:
    dom0 = "root=/dev/vda rw console=hvc0 panic=5 systemd.show_status=0"
    return ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            "-accel", "tcg,thread=multi", "-cpu", "qemu64,+svm,+npt", "-smp", str(cpus), "-m", str(RAM_MIB),
            "-kernel", str(image.xen),
            "-append", f"dom0_mem={DOM0_MIB}M,max:{DOM0_MIB}M console=com1 com1=115200,8n1",
            "-initrd", f"{image.kernel} {dom0},{image.initrd}",
            "-device", "virtio-rng-pci"]


def _disk_arguments(name: str, disk: Path, write_log: Path | None) -> list[str]:
    """Attaches a disk; flushes reach the file system, so what the guest has synced outlives a killed QEMU."""
    arguments = ["-blockdev", f"driver=file,node-name={name}-file,filename={disk},discard=unmap",
                 "-blockdev", f"driver=raw,node-name={name},file={name}-file"]
    top = name
    if write_log is not None:
        arguments += ["-blockdev", f"driver=file,node-name=log,filename={write_log}",
                      "-blockdev", f"driver=blklogwrites,node-name=logged,file={name},log=log"]
        top = "logged"
    return arguments + ["-device", f"virtio-blk-pci,drive={top}"]
