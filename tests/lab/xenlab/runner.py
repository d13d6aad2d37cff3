"""Runs scenarios: `python3 -m xenlab.runner NAME... | all | --list`."""

import importlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path
from types import ModuleType

from . import cache
from .agent import LabError
from .chip import Chip
from .dom0image import Dom0Image, dom0_image
from .expect import Failure
from .lab import Lab, copy_disk
from .product import NoProduct, find_deb, installed
from .say import say, timed, warn

SCENARIOS = Path(__file__).resolve().parent.parent / "scenarios"
JOURNAL = "journalctl -b --no-pager -o short-monotonic"
JOURNAL_TAIL = 60


def load() -> dict[str, ModuleType]:
    """Returns the scenarios by name, those that share a host first, and next to each other."""
    sys.path.insert(0, str(SCENARIOS))
    modules = {path.stem: importlib.import_module(path.stem) for path in sorted(SCENARIOS.glob("*.py"))}
    return dict(sorted(modules.items(), key=lambda item: (item[1].OWN_HOST, cpus(item[1]))))


def cpus(scenario: ModuleType) -> int:
    """Returns how many processors the shared host is to have."""
    return int(getattr(scenario, "CPUS", 1))


def summary(scenario: ModuleType) -> str:
    """Returns a scenario's one-line description."""
    return (scenario.__doc__ or "").strip().splitlines()[0]


class Runner:
    """Runs scenarios one after another and counts."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed = 0
        self._directory = _run_directory()
        self._shared: Lab | None = None
        self._shared_cpus = 0
        self._image: Dom0Image | None = None
        self._product: Path | NoProduct | None = None
        self._hosts = 0

    def run(self, name: str, scenario: ModuleType) -> None:
        """Runs one scenario on a host that fits it."""
        say(f"{name}: {summary(scenario)}")
        begin = time.monotonic()
        lab = None
        try:
            lab = self._new_host(scenario) if scenario.OWN_HOST else self._shared_host(scenario)
            scenario.run(lab)
            if not scenario.OWN_HOST:
                self._leave(lab)
        except (Failure, LabError, NoProduct, OSError, RuntimeError) as error:
            self.failed += 1
            self._explain(name, lab, error)
        except Exception:  # A mistake in the scenario itself must not hide the others' results.
            self.failed += 1
            self._explain(name, lab, traceback.format_exc())
        else:
            self.passed += 1
            say(f"{name}: passed in {time.monotonic() - begin:.0f} s")
        finally:
            if lab is not None and scenario.OWN_HOST:
                self._discard(lab)

    def _image_once(self) -> Dom0Image:
        if self._image is None:
            self._image = dom0_image()
        return self._image

    def _product_once(self) -> Path:
        if self._product is None:
            try:
                self._product = installed(self._image_once(), find_deb(self._directory))
            except NoProduct as error:
                self._product = error
        if isinstance(self._product, NoProduct):
            raise NoProduct(*self._product.args)
        return self._product

    def _new_host(self, scenario: ModuleType) -> Lab:
        """Returns a host of its own, switched off, with private copies of disk and chip."""
        self._hosts += 1
        directory = self._directory / f"host{self._hosts}"
        image = self._image_once()
        source = self._product_once() if scenario.NEEDS_PRODUCT else None
        directory.mkdir()
        copy_disk(source / "disk.img" if source else image.disk, directory / "disk.img")
        chip = Chip(source / "chip").copy(directory / "chip") if source else Chip(directory / "chip")
        return Lab(image, directory / "disk.img", chip, directory)

    def _shared_host(self, scenario: ModuleType) -> Lab:
        """Returns the running host that several scenarios use one after another."""
        if self._shared_cpus != cpus(scenario):
            self._discard_shared()
        if self._shared is None:
            self._shared = self._new_host(scenario)
            self._shared_cpus = cpus(scenario)
            with timed("booting the shared host"):
                self._shared.boot(cpus=self._shared_cpus)
        return self._shared

    def _leave(self, lab: Lab) -> None:
        """Leaves the shared host to the next scenario, or takes it away if the last one has switched it off."""
        if lab.is_on:
            lab.destroy_guests()
        else:
            self._discard_shared()

    def _explain(self, name: str, lab: Lab | None, error: object) -> None:
        say(f"{name}: FAILED: {error}")
        for host in [lab, *lab.neighbours] if lab is not None else []:
            if host.is_on:
                _show(name, host)
        if lab is not None and lab is self._shared:
            # What a failed scenario left behind is nothing to judge the next one by.
            self._discard_shared()

    def _discard_shared(self) -> None:
        if self._shared is not None:
            self._discard(self._shared)
            self._shared = None

    def _discard(self, lab: Lab) -> None:
        lab.close()
        shutil.rmtree(lab.directory)

    def close(self) -> None:
        """Switches off and removes what this run made."""
        self._discard_shared()
        shutil.rmtree(self._directory, ignore_errors=True)


def _show(name: str, host: Lab) -> None:
    kept = cache.root() / "failed" / name
    shutil.rmtree(kept, ignore_errors=True)
    host.save_logs(kept)
    warn(f"--- the end of the console of Xen and the dom0 (all of it in {kept})\n{host.machine.console_tail()}")
    try:
        journal = host.sh(JOURNAL, 120).out
        (kept / "journal.log").write_text(journal, encoding="utf-8")
        tail = "\n".join(journal.splitlines()[-JOURNAL_TAIL:])
        warn(f"--- the end of the dom0's journal (all of it there as well)\n{tail}\n---")
    except LabError as unreachable:
        warn(f"--- the dom0's journal cannot be had: {unreachable}")


def _run_directory() -> Path:
    """Makes this run's directory, and removes those of runs that were killed."""
    runs = cache.root() / "runs"
    runs.mkdir(exist_ok=True)
    for old in runs.iterdir():
        if not Path("/proc", old.name.split("-")[0]).exists():
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=runs))


def _terminate(*_: object) -> None:
    raise SystemExit(143)


def main(names: list[str]) -> int:
    """Runs what the command line names; returns the exit status."""
    scenarios = load()
    if names == ["--list"]:
        for name, scenario in scenarios.items():
            print(f"{name:12} {summary(scenario)}")
        return 0
    if names == ["all"]:
        names = list(scenarios)
    unknown = [name for name in names if name not in scenarios]
    if not names or unknown:
        warn(f"unknown scenario: {', '.join(unknown)}" if unknown else "usage: tests/lab/run NAME... | all | --list")
        print("0 passed, 0 failed")
        return 2
    signal.signal(signal.SIGTERM, _terminate)
    runner = Runner()
    try:
        for name in names:
            runner.run(name, scenarios[name])
    except KeyboardInterrupt:
        warn("interrupted")
        return 130
    finally:
        runner.close()
    print(f"{runner.passed} passed, {runner.failed} failed")
    return 1 if runner.failed or not runner.passed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
