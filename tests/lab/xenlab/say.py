"""What a person sees while the lab works."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

_started = time.monotonic()


def say(text: str) -> None:
    """Prints one line with the seconds since the start."""
    print(f"[{time.monotonic() - _started:6.1f}] {text}", flush=True)


def step(text: str) -> None:
    """Prints what a scenario is about to look at."""
    say(f"    {text}")


@contextmanager
def timed(text: str) -> Iterator[None]:
    """Announces something slow and tells how long it took."""
    say(f"  {text} ...")
    begin = time.monotonic()
    yield
    say(f"  {text}: {time.monotonic() - begin:.1f} s")


def warn(text: str) -> None:
    """Prints to the error stream."""
    print(text, file=sys.stderr, flush=True)
