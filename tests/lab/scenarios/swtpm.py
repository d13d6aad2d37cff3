"""TPMs in swtpm's protocol as systemd and as libvirt start them: the unit vtpm-swtpm@, and the package's swtpm and swtpm_setup."""

import secrets

from xenlab import vtpm
from xenlab.expect import expect, expect_equal
from xenlab.lab import Lab
from xenlab.say import step

NEEDS_PRODUCT = True
OWN_HOST = False
CLIENT = "/run/lab/client.py"
# The machine's side: a data channel, power, and the commands that its arguments are, in hex.
PROGRAM = b'''
import array, socket, struct, sys
control = socket.socket(socket.AF_UNIX)
control.connect(sys.argv[1])
def ask(command, body=b"", rights=()):
    control.sendmsg([struct.pack(">I", command) + body], rights)
    result = struct.unpack(">I", control.recv(4))[0]
    if result:
        sys.exit(f"control command {command}: {result:#x}")
ours, theirs = socket.socketpair()
ask(16, rights=[(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [theirs.fileno()]))])
ask(2, struct.pack(">I", 0))
for command in sys.argv[2:]:
    ours.sendall(bytes.fromhex(command))
    print(ours.recv(4096).hex())
ask(3)
'''
STARTUP = "80010000000c000001440000"
STARTUP_12 = "00c10000000c000000990001"
OWNER = "40000001"
EMPTY_PASSWORD = "00000009" + "40000009" + "0000" + "00" + "0000"
INDEX = "01500001"


def run(lab: Lab) -> None:
    """Both versions by the unit, and one by swtpm's command line; what was written stays."""
    lab.agent.put(CLIENT, PROGRAM)
    _unit(lab)
    _command_line(lab)


def _unit(lab: Lab) -> None:
    step("vtpm-swtpm@ under systemd, for either version")
    new, old = vtpm.create(lab, "unit20", "2.0"), vtpm.create(lab, "unit12", "1.2")
    lab.check("systemctl start vtpm-swtpm@unit20 vtpm-swtpm@unit12")
    expect_equal(lab.check("stat -c '%a %U' /run/xen-vtpm/swtpm/unit20.sock"), "600 root", "the socket")
    said = _machine(lab, "unit12", STARTUP_12)
    expect(said.endswith("00000000"), f"TPM 1.2 said {said}")
    secret = secrets.token_bytes(16)
    _write(lab, "unit20", secret)
    expect_equal(_read(lab, "unit20"), secret, "what was written")
    step("it outlives a restart of the unit and of the manager")
    for deed in ("systemctl restart vtpm-swtpm@unit20", "systemctl restart vtpmmgrd"):
        lab.check(deed, 60)
        expect_equal(_read(lab, "unit20"), secret, f"NV after {deed}")
    exposure = float(lab.check("systemd-analyze security --no-pager vtpm-swtpm@unit20 | tail -n 1 | grep -o '[0-9]\\.[0-9]'"))
    expect(exposure <= 3.0, f"systemd-analyze gives vtpm-swtpm@ an exposure of {exposure}")
    lab.check("systemctl stop vtpm-swtpm@unit20 vtpm-swtpm@unit12")
    expect_equal(lab.check("systemctl show --value -p Result vtpm-swtpm@unit20"), "success", "how the unit ended")
    for instance in (new, old):
        vtpm.delete(lab, instance)


def _command_line(lab: Lab) -> None:
    step("swtpm_setup and swtpm of the package, as libvirt calls them")
    place = "/var/lib/lab-swtpm"
    lab.check(f"install -d -m 700 {place} && PATH=/usr/lib/xen-vtpm/swtpm:$PATH && swtpm_setup --tpm2 --tpmstate {place} "
              "--vmid web1:11111111-2222-4333-8444-555555555555 --createek --create-ek-cert --lock-nvram --not-overwrite")
    start = (f"PATH=/usr/lib/xen-vtpm/swtpm:$PATH; swtpm socket --daemon --ctrl type=unixio,path={place}/sock,mode=0600 --tpmstate "
             f"dir={place},mode=0600 --log file={place}/log --terminate --tpm2 --pid file={place}/pid")
    secret = secrets.token_bytes(16)
    lab.check(start)
    _write(lab, f"{place}/sock", secret)
    expect(lab.wait_until(f"! test -e {place}/sock"), "swtpm did not end with its machine")
    lab.check(start)
    expect_equal(_read(lab, f"{place}/sock"), secret, "NV of a machine's next life")
    expect(lab.wait_until(f"! test -e {place}/pid"), "swtpm left its pid")
    name = next(name for name in vtpm.names(lab) if name.startswith("web1-"))
    vtpm.wait_free(lab, name)
    lab.check(f"vtpmctl delete {name} --yes && rm -r {place}")


def _machine(lab: Lab, path: str, *commands: str) -> str:
    path = path if path.startswith("/") else f"/run/xen-vtpm/swtpm/{path}.sock"
    return lab.check(f"python3 {CLIENT} {path} {' '.join(commands)}", 240)


def _command(code: str, body: str, tag: str = "8002") -> str:
    return f"{tag}{10 + len(body) // 2:08x}{code}{body}"


def _write(lab: Lab, path: str, secret: bytes) -> None:
    public = INDEX + "000b" + "02040004" + "0000" + f"{len(secret):04x}"
    define = _command("0000012a", OWNER + EMPTY_PASSWORD + "0000" + f"{len(public) // 2:04x}" + public)
    write = _command("00000137", INDEX + INDEX + EMPTY_PASSWORD + f"{len(secret):04x}" + secret.hex() + "0000")
    answers = _machine(lab, path, STARTUP, define, write).splitlines()
    expect(len(answers) == 3 and all(answer[12:20] == "00000000" for answer in answers), f"the TPM said {answers}")


def _read(lab: Lab, path: str) -> bytes:
    read = _command("0000014e", INDEX + INDEX + EMPTY_PASSWORD + "0010" + "0000")
    answer = bytes.fromhex(_machine(lab, path, STARTUP, read).splitlines()[-1])
    return answer[16:32]
