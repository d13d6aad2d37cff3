"""A key that was deleted or replaced is gone from the raw disk: no block, free or not, and no log has it."""

from xenlab import diskscan, vtpm
from xenlab.diskscan import Secret
from xenlab.expect import expect, expect_equal
from xenlab.guesttpm import tpm_of
from xenlab.lab import Lab
from xenlab.say import step, timed

NEEDS_PRODUCT = True
OWN_HOST = True
# More rows than a page of the database has room for.
MANY = 30


def run(lab: Lab) -> None:
    """Wrapped keys of instances, and sealed ones of groups and the vault: what is left of them is what the chip opens."""
    with timed("booting"):
        lab.boot()
    step("a guest writes; there are many instances; the vault was backed up, and its manager restarted")
    instance = vtpm.create(lab, "used", "1.2")
    lab.check(f"for i in $(seq 10 {MANY + 9}); do vtpmctl create --name i$i || exit 1; done", 600)
    lab.check("vtpmctl group create tenant && vtpmctl create --name theirs --group tenant")
    guest = lab.create_guest("used", "pv", instance.line)
    tpm_of(guest, "1.2").write_secret(b"32 bytes that nobody looks for..")
    guest.shutdown()
    vtpm.wait_free(lab, "used")
    lab.check("vtpmctl backup /run/lab/backup && rm /run/lab/backup")
    lab.check("systemctl restart vtpmmgrd.service && vtpmctl show used && sync")
    before = _keys(lab)
    _search(lab, before, there=True)

    step("two thirds of the instances are deleted, a few get a new key")
    deleted = [f"i{i}" for i in range(10, MANY + 10) if i % 3 != 0] + ["used"]
    rotated = ["i12", "i24", "theirs"]
    lab.check(f"for i in {' '.join(deleted)}; do vtpmctl delete $i --yes || exit 1; done", 600)
    lab.check(f"for i in {' '.join(rotated)}; do vtpmctl rotate $i || exit 1; done", 600)
    gone = [key for key in before if key.name in deleted + rotated]
    expect_equal(len(gone), len(deleted) + len(rotated), "keys that must be gone")
    _search(lab, gone, there=False)

    step("the groups and the vault get new keys")
    before = _keys(lab)
    lab.check("vtpmctl rotate --group default && vtpmctl rotate --group tenant && vtpmctl rotate --root", 600)
    now = {key.value for key in _keys(lab)}
    gone = [key for key in before if key.value not in now]
    expect_equal(len(gone), len(before), "keys that were replaced")
    _search(lab, gone, there=False)


def _keys(lab: Lab) -> list[Secret]:
    rows = vtpm.vault_rows(lab, "SELECT name, hex(wrapped_key) FROM instances WHERE wrapped_key NOT NULL "
                                "UNION ALL SELECT 'sealed key of ' || name, hex(sealed_private) FROM groups "
                                "UNION ALL SELECT 'sealed root key', hex(root_private) FROM vault")
    return [Secret(name, bytes.fromhex(value)) for name, value in rows]


def _search(lab: Lab, keys: list[Secret], there: bool) -> None:
    with timed(f"searching the disk of the running host for {len(keys)} keys"):
        hits = diskscan.search(lab.disk, keys, diskscan.raw)
    if there:
        expect_equal({key.name for key in keys} - {hit.name for hit in hits}, set(), "keys that the search does not find")
        return
    files = lab.sh(f"ls -la {vtpm.STATE}").out
    expect(not hits, f"on the disk: {hits}\n{files}")
