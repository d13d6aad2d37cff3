"""Where this machine gets its Debian packages from: the lab's image is made from the same places."""

import subprocess

RELEASE = "bookworm"
PASSED_ON = ("Acquire::http::Proxy", "Acquire::https::Proxy", "Acquire::Check-Valid-Until")


def deb_lines() -> list[str]:
    """Returns one-line sources for the lab's release, as apt on this machine sees them.

    apt is asked rather than its files read, as these come in two formats and several places.
    Raises RuntimeError when this machine's apt has no such source.
    """
    lines = _deb_lines()
    if not lines:
        # The origin of a source is known only once its index has been fetched.
        subprocess.run(["apt-get", "-qq", "update"], check=False, stdout=subprocess.DEVNULL)
        lines = _deb_lines()
    if not lines:
        raise RuntimeError(f"apt on this machine has no source for Debian {RELEASE}")
    return lines


def _deb_lines() -> list[str]:
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)",
         "Created-By: Packages"],
        check=True, capture_output=True, text=True).stdout
    found: dict[str, None] = {}
    for row in listing.splitlines():
        origin, _, rest = row.partition(" ")
        fields = rest.split()
        if origin == "Debian" and len(fields) == 3 and fields[1].startswith(RELEASE) and fields[2] == "main":
            found[f"deb {rest}"] = None
    return list(found)


def apt_options() -> list[str]:
    """Returns the settings of this machine's apt that fetching depends on, as apt.conf lines."""
    dump = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    return [line for line in dump.splitlines() if line.startswith(PASSED_ON)]
