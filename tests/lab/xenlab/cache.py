"""The cache of built images: kept outside the source tree, keyed by recipe, never half-built."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


_in_use: list[int] = []


def root() -> Path:
    """Returns the cache directory, made when it is not there."""
    path = Path(os.environ.get("XEN_VTPM_LAB_CACHE", "/var/cache/xen-vtpm-lab"))
    path.mkdir(parents=True, exist_ok=True)
    return path


def key_of(*parts: str | bytes | Path) -> str:
    """Hashes texts, and files or whole directories by name, mode and content."""
    digest = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            digest.update(len(piece).to_bytes(8, "little") + piece)
    return digest.hexdigest()[:16]


def _pieces(part: str | bytes | Path) -> Iterator[bytes]:
    if isinstance(part, str):
        yield part.encode()
    elif isinstance(part, bytes):
        yield part
    elif part.is_dir():
        for file in sorted(p for p in part.rglob("*") if p.is_file() and p.suffix != ".pyc"):
            yield str(file.relative_to(part)).encode()
            yield oct(file.stat().st_mode).encode()
            yield file.read_bytes()
    else:
        yield part.read_bytes()


def get(name: str, key: str, build: Callable[[Path], None], keep: int = 1) -> Path:
    """Returns directory NAME-KEY of the cache; build() fills it if it is not there.

    build() works in a temporary directory that is renamed when complete, so an interrupted
    build leaves nothing that could be taken for a finished one. Older keys of the same name
    beyond the newest `keep` are removed unless another process uses them, as are the remains
    of interrupted builds. This process uses what it got until it ends.
    """
    final = root() / f"{name}-{key}"
    with _locked(name):
        if final.is_dir():
            os.utime(final)
            _use(final)
            return final
        for stale in root().glob(f".{name}-*"):
            shutil.rmtree(stale)
        temporary = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=root()))
        build(temporary)
        os.sync()
        temporary.chmod(0o755)
        temporary.rename(final)
        _use(final)
        _prune(name, keep)
    return final


def _use(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    _in_use.append(fd)


def _is_used(directory: Path) -> bool:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


def _prune(name: str, keep: int) -> None:
    kept = sorted((p for p in root().glob(f"{name}-*") if p.is_dir()), key=lambda p: p.stat().st_mtime)
    for old in kept[:-keep]:
        if _is_used(old):
            continue
        # Renamed first: a removal that is interrupted must not leave a half-emptied image under a valid name.
        grave = old.with_name(f".{old.name}")
        old.rename(grave)
        shutil.rmtree(grave)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """Holds a lock, so that two labs started at once build an image once."""
    with open(root() / f"{name}.lock", "w", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
