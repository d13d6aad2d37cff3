"""A stock PVH guest with a TPM 1.2: driver, sysfs, PCRs, orderly power-off."""

from xenlab import stock12
from xenlab.lab import Lab

NEEDS_PRODUCT = True
OWN_HOST = False


def run(lab: Lab) -> None:
    """See stock12."""
    stock12.exercise(lab, "pvh")
