"""A real Xen in QEMU, driven from outside: see ../README.md."""
