"""The first process of a worker's machine: in its order, and off the moment that anything fails."""

import pytest

from strongroom.errors import MachineUnfit, MalformedRecord
from strongroom.records.machine import Network, from_toml
from strongroom.worker import firewall, init

TOLD = """
version = 1
command = ["strongroom", "serve", "dir:/srv/a/model", "--image", "{image}"]
told = {image = "/srv/a/image"}
[network]
address = "10.0.2.15/24"
gateway = "10.0.2.2"
serves = [8443]
reaches = ["10.0.2.2:8700"]
[[disks]]
device = "/dev/vdb"
filesystem = "vfat"
place = "/srv/a"
"""
DIGEST = "sha256:" + "ab" * 32
LISTED = "".join(f"type filter hook {chain} priority filter; policy drop;\n" for chain in firewall.CHAINS)


class Recorded:
    """A kernel that does as it is told and remembers it; `files` are what it shows, `fails` what it refuses."""

    def __init__(self, fails="", **files):
        self.done, self.said, self.fails, self.off = [], [], fails, False
        self.listed = LISTED
        self.files = {
            "/etc/strongroom/machine.toml": TOLD,
            init.MODULES: "/usr/lib/modules/a.ko\n/usr/lib/modules/b.ko\n",
            "/sys/kernel/security/lockdown": "none integrity [confidentiality]\n",
            "/proc/swaps": "Filename Type Size Used Priority\n",
            "/srv/a/image": f"{DIGEST}\n",
            "/dev/tpmrm0": "",
            "/sys/kernel/config": "",
            **files,
        }

    def _note(self, *what):
        self.done.append(what)
        if self.fails and self.fails in " ".join(map(str, what)):
            raise OSError(5, "Input/output error")

    def mount(self, source, target, kind, flags, options=""):
        self._note("mount", source, target, kind, flags, options)

    def enter(self, root):
        self._note("enter", root)

    def read(self, path):
        if path not in self.files:
            raise FileNotFoundError(2, "No such file or directory")
        return self.files[path]

    def write(self, path, text):
        self._note("write", path, text)
        self.files.setdefault(path, text)

    def exists(self, path):
        return path in self.files

    def load_module(self, path):
        self._note("module", path)

    def filter(self, rules):
        self._note("filter", rules)
        return self.listed

    def interface(self, name, address, gateway):
        self._note("interface", name, address, gateway)

    def give(self, path, group):
        self._note("give", path, group)

    def restrain(self):
        self._note("restrain")

    def run(self, command, environment, user):
        self._note("run", *command)
        self.user, self.environment = user, environment
        return 7

    def say(self, text):
        self.said.append(text)

    def power_off(self):
        self.off = True


def order(kernel):
    return [what[0] for what in kernel.done]


def test_a_machine_is_closed_before_its_worker_starts():
    kernel = Recorded()
    assert init.start(kernel) == 7
    steps = [name for name, after in zip(order(kernel), [*order(kernel)[1:], ""], strict=True) if name != after]
    assert steps == [
        "mount",
        "enter",
        "mount",
        "module",
        "mount",
        "write",
        "filter",
        "interface",
        "mount",
        "restrain",
        "give",
        "run",
    ]
    assert kernel.done[-1] == ("run", "strongroom", "serve", "dir:/srv/a/model", "--image", DIGEST)
    assert kernel.user == init.USER != 0
    assert kernel.environment["PATH"] == "/usr/bin"
    assert ("write", "/proc/sys/kernel/modules_disabled", "1") in kernel.done
    assert ("give", "/dev/tpmrm0", init.USER) in kernel.done
    disk = next(what for what in kernel.done if what[1:3] == ("/dev/vdb", "/srv/a"))
    assert disk[4] == init.PLAIN | init.MS_RDONLY | init.MS_NOSYMFOLLOW, "a link on it would lead into the machine"


def test_no_interface_takes_redirects_when_it_is_switched_on():
    kernel = Recorded()
    init.start(kernel)
    on = kernel.done.index(("interface", "eth0", "10.0.2.15/24", "10.0.2.2"))
    for interface in ("all", "default", "eth0"):
        for name in ("accept_redirects", "accept_source_route"):
            assert kernel.done.index(("write", f"/proc/sys/net/ipv4/conf/{interface}/{name}", "0")) < on


def test_the_root_is_read_only_before_anything_else_is_mounted():
    kernel = Recorded()
    init.start(kernel)
    assert kernel.done[1][4] & init.MS_RDONLY
    assert order(kernel)[:4] == ["mount", "mount", "enter", "mount"]


@pytest.mark.parametrize(
    "fails",
    [
        "mount /",
        "enter",
        "proc",
        "1777",
        "a.ko",
        "b.ko",
        "configfs",
        "modules_disabled",
        "panic",
        "filter",
        "lo 127",
        "eth0",
        "vdb",
        "restrain",
        "tpmrm0",
    ],
)
def test_nothing_starts_where_a_step_fails(fails):
    kernel = Recorded(fails=fails)
    with pytest.raises(MachineUnfit):
        init.start(kernel)
    assert "run" not in order(kernel)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/sys/kernel/security/lockdown", "none [integrity] confidentiality\n"),
        ("/sys/kernel/security/lockdown", ""),
        ("/proc/swaps", "Filename Type Size Used Priority\n/dev/vda partition 1 0 -2\n"),
        ("/proc/swaps", ""),
        ("/proc/sys/kernel/modules_disabled", "0\n"),
        ("/proc/sys/kernel/panic_on_oops", "0\n"),
        ("/proc/sys/net/ipv4/conf/eth0/accept_redirects", "1\n"),
        ("/srv/a/image", "sha256:short"),
        ("/srv/a/image", f"{DIGEST} --tee-root"),
        ("/etc/strongroom/machine.toml", "version = 2"),
    ],
    ids=[
        "integrity",
        "no lockdown",
        "swap",
        "swaps unread",
        "modules",
        "oops",
        "redirects",
        "short",
        "words",
        "version",
    ],
)
def test_nothing_starts_where_something_is_not_as_it_must_be(path, text):
    kernel = Recorded(**{path: text})
    with pytest.raises((MachineUnfit, MalformedRecord)):
        init.start(kernel)
    assert "run" not in order(kernel)


@pytest.mark.parametrize("listed", ["", LISTED.replace("drop", "accept", 1), LISTED.splitlines()[0]])
def test_nothing_starts_behind_a_firewall_that_is_open(listed):
    kernel = Recorded()
    kernel.listed = listed
    with pytest.raises(MachineUnfit, match="firewall"):
        init.start(kernel)
    assert not {"interface", "run"} & set(order(kernel))


@pytest.mark.parametrize(
    ("kernel", "says"),
    [(Recorded(), "ended with 7"), (Recorded(fails="filter"), "machine.unfit")],
    ids=["end", "refusal"],
)
def test_the_machine_goes_off_whatever_happens(monkeypatch, kernel, says):
    monkeypatch.setattr(init, "Linux", lambda: kernel)
    init.main()
    assert kernel.off
    assert says in kernel.said[-1]


def test_the_machine_goes_off_on_a_bug_too(monkeypatch):
    kernel = Recorded()
    kernel.read = lambda _path: 1 / 0
    monkeypatch.setattr(init, "Linux", lambda: kernel)
    init.main()
    assert kernel.off
    assert kernel.said == ["init: ZeroDivisionError: nothing is started"]


def network(**changed):
    fields = {
        "interface": "eth0",
        "address": "10.0.2.15/24",
        "gateway": None,
        "serves": (8443,),
        "reaches": ("10.0.2.2:8700",),
        "hosts": {},
    }
    return Network(**{**fields, **changed})


def test_the_firewall_lets_through_what_is_named_and_drops_the_rest():
    rules = firewall.ruleset(network())
    assert rules.startswith("flush ruleset\n")
    assert rules.count("policy drop;") == 3
    new = [line.strip() for line in rules.splitlines() if "ct state new" in line]
    assert new == [
        'iifname "eth0" tcp dport 8443 ct state new accept',
        'oifname "eth0" ip daddr 10.0.2.2 tcp dport 8700 ct state new accept',
    ]
    assert "eth0" not in firewall.ruleset(None)


@pytest.mark.parametrize(
    "changed",
    [
        ("version = 1", "version = 1\nshell = true"),
        ('gateway = "10.0.2.2"', 'gateway = "gateway"'),
        ('address = "10.0.2.15/24"', 'address = "10.0.2.15"'),
        ('address = "10.0.2.15/24"', 'address = "::1/64"'),
        ("serves = [8443]", "serves = [0]"),
        ("serves = [8443]", 'serves = ["8443"]'),
        ('"10.0.2.2:8700"', '"10.0.2.2"'),
        ('"10.0.2.2:8700"', '"10.0.2.0/24:8700"'),
        ('"10.0.2.2:8700"', '"10.0.2.2:8700; policy accept"'),
        ("[network]", '[network]\ninterface = "eth0\\" accept"'),
        ("[network]", '[network]\nhosts = {"a b" = "10.0.2.2"}'),
        ("/dev/vdb", "/dev/../vdb"),
        ("vfat", "overlay"),
        ('"/srv/a"', '"/srv/../etc"'),
        ('"/srv/a"', '"/etc"'),
        ('place = "/srv/a"', 'place = "/srv/a"\n[[disks]]\ndevice = "/dev/vdc"\nfilesystem = "vfat"\nplace = "/srv/a"'),
        (
            'place = "/srv/a"',
            'place = "/srv/a"\n[[disks]]\ndevice = "/dev/vdc"\nfilesystem = "vfat"\nplace = "/srv/a/b"',
        ),
        ("[[disks]]", '[[disks]]\ndevice = "/dev/vdc"\nfilesystem = "ext4"\nplace = "/srv/a/b"\n[[disks]]'),
        ("/srv/a/image", "/etc/passwd"),
        ("/srv/a/image", "/srv/b/image"),
        ('"strongroom", ', '"", '),
        ('"--image"', '"--token=x"'),
        ("version = 1", ""),
    ],
    ids=str,
)
def test_a_configuration_with_anything_odd_in_it_is_refused(changed):
    assert from_toml(TOLD).network.serves == (8443,)
    assert changed[0] in TOLD
    with pytest.raises(MalformedRecord):
        from_toml(TOLD.replace(*changed))


def test_disks_may_lie_beside_each_other():
    beside = '[[disks]]\ndevice = "/dev/vdc"\nfilesystem = "ext4"\nplace = "/srv/ab"\n'
    assert [disk.place for disk in from_toml(TOLD + beside).disks] == ["/srv/a", "/srv/ab"]
