import os
import socket
import stat
from pathlib import Path

import hosts
import pytest

from strongroom.launch.doctor import Host, LinuxProbe, SilentProbe, machine
from strongroom.launch.doctor.host import MOST_BYTES, MOST_LINKS


@pytest.fixture
def root(tmp_path):
    (tmp_path / "secret").write_text("outside")
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def test_a_file_is_read_without_the_white_space_around_it(root):
    (root / "word").write_text(" Y \n")
    assert Host(root).text("/word") == "Y"
    assert Host(root).data("/word") == b" Y \n"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"Y\0", b"\0" * 10])
def test_what_is_no_text_is_not_said(root, content):
    (root / "word").write_bytes(content)
    assert Host(root).text("/word") is None


def test_a_huge_file_is_not_said_or_cut_and_costs_no_more_than_its_head(root):
    with (root / "huge").open("wb") as file:
        file.write(b"A" * 100)
        file.truncate(1 << 40)
    assert Host(root).data("/huge") is None
    assert len(Host(root).data("/huge", head=True)) == MOST_BYTES


def test_links_never_lead_outside_the_root(root):
    (root / "up").symlink_to("../secret")
    (root / "far").symlink_to("../../../../../../../../etc/passwd")
    (root / "absolute").symlink_to(root.parent / "secret")
    for name in ("up", "far", "absolute", "../secret", "x/../../secret"):
        assert Host(root).data(f"/{name}") is None, name


def test_absolute_links_are_followed_from_the_root(root):
    (root / "run").mkdir()
    (root / "run" / "word").write_text("here")
    (root / "var").symlink_to("/run")
    assert Host(root).text("/var/word") == "here"
    assert Host(root).names("/var") == ("word",)


def test_loops_end(root):
    (root / "self").symlink_to("self")
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("/a")
    (root / "deep").symlink_to("deep/deep")
    for name in ("self", "a", "deep"):
        assert Host(root).data(f"/{name}") is None
        assert Host(root).names(f"/{name}") is None
    (root / "0").write_text("end")
    for number in range(MOST_LINKS + 1):
        (root / str(number + 1)).symlink_to(str(number))
    assert Host(root).text(f"/{MOST_LINKS}") == "end"
    assert Host(root).text(f"/{MOST_LINKS + 1}") is None


@pytest.mark.timeout(20)
def test_nothing_waits_for_a_fifo_a_socket_or_a_folder(root):
    hosts.fifo(root / "fifo")
    (root / "folder").mkdir()
    for name in ("fifo", "folder"):
        assert Host(root).data(f"/{name}") is None
    assert Host(root).names("/fifo") is None
    probe = LinuxProbe(root, lambda path: root / "fifo")  # noqa: ARG005  # every device is the FIFO
    assert probe.register(0x982) is None
    assert probe.snp_status() is None


def test_devices_are_not_opened_as_files():
    assert Host().data("/dev/null") is None
    assert Host().data("/dev/zero") is None


def test_a_file_of_the_kernel_that_says_it_is_empty_is_read():
    assert "MemTotal" in Host().text("/proc/meminfo")


def test_whether_something_is_there_is_three_answers(root):
    (root / "dev").mkdir()
    (root / "dev" / "kvm").symlink_to("nowhere")
    assert Host(root).there("/dev/kvm") is True
    assert Host(root).there("/dev/sev") is False
    assert Host(root).there("/sys/sev") is None


def test_a_node_is_of_its_kind_wherever_a_link_leads(root):
    (root / "dev").mkdir()
    (root / "dev" / "kvm").symlink_to("nowhere")
    (root / "dev" / "sev").touch()
    assert Host().node("/dev/null", stat.S_IFCHR) is True
    assert Host().node("/dev/null", stat.S_IFSOCK) is False
    for name in ("kvm", "sev", "none"):
        assert Host(root).node(f"/dev/{name}", stat.S_IFCHR) is False
    assert Host(root).node("/dev", stat.S_IFCHR) is False
    assert Host(root).node("/sys/sev", stat.S_IFCHR) is None
    with socket.socket(socket.AF_UNIX) as listening:
        place = os.open(root / "dev", os.O_RDONLY)
        listening.bind(f"/proc/self/fd/{place}/qgs")
        os.close(place)
        (root / "link").symlink_to("/dev/qgs")
        assert Host(root).node("/link", stat.S_IFSOCK) is True


def test_a_folder_with_too_many_names_is_not_listed(root, monkeypatch):
    monkeypatch.setattr("strongroom.launch.doctor.host.MOST_NAMES", 3)
    for name in "abc":
        (root / name).touch()
    assert Host(root).names("/") == ("a", "b", "c")
    (root / "d").touch()
    assert Host(root).names("/") is None


def test_absurd_paths_are_missing(root):
    for path in ("/" + "x" * 5000, "/a\0b", "/" + "x/" * 3000):
        assert Host(root).data(path) is None
        assert Host(root).names(path) is None


# --- what files do not say ------------------------------------------------------------------------------------------------


def test_a_register_is_eight_bytes_at_its_number(root):
    place = root / "dev" / "cpu" / "0" / "msr"
    place.parent.mkdir(parents=True)
    with place.open("wb") as file:
        file.seek(0x982)
        file.write((0b11).to_bytes(8, "little"))
    probe = machine(root).probe
    assert probe.register(0x982) == 3
    assert probe.register(0x980) == 3 << 16
    assert probe.register(0x983) is None


def test_a_copy_of_another_host_is_not_asked_what_this_kernel_says(root):
    probe = machine(root).probe
    assert (probe.landlock_abi(), probe.clock_is_synchronised(), probe.gpu_says("-f"), probe.snp_status()) == (
        None,
    ) * 4
    assert probe.free_bytes() > 0


def test_the_running_kernel_answers_or_does_not_and_nothing_breaks():
    probe = machine(Path("/")).probe
    assert probe.landlock_abi() in range(100)
    assert probe.clock_is_synchronised() in {True, False}
    assert probe.free_bytes() > 0
    assert probe.snp_status() is None or len(probe.snp_status()) == 32


@pytest.mark.parametrize("number", ["10:130", "1:3", ""])
def test_no_device_is_opened_but_the_one_that_the_kernel_calls_sev(number, tmp_path, monkeypatch):
    said = tmp_path / "number"
    said.write_text(f"{number}\n")
    monkeypatch.setattr("strongroom.launch.doctor.probe._SEV_NUMBER", os.fspath(said))
    opened = []
    monkeypatch.setattr("strongroom.launch.doctor.probe.os.open", lambda place, _: opened.append(place) or 1 << 20)
    monkeypatch.setattr("strongroom.launch.doctor.probe.os.close", lambda descriptor: None)  # noqa: ARG005
    assert LinuxProbe(Path("/"), lambda path: Path("/dev/null")).snp_status() is None  # noqa: ARG005  # whose number is 1:3
    assert bool(opened) == (number == "1:3")


def test_a_silent_probe_says_nothing():
    probe = SilentProbe()
    answers = [
        probe.register(1),
        probe.snp_status(),
        probe.landlock_abi(),
        probe.clock_is_synchronised(),
        probe.free_bytes(),
        probe.gpu_says("-f"),
    ]
    assert answers == [None] * 6


@pytest.mark.parametrize(
    ("script", "wanted"),
    [
        ("echo CC status: ON", "CC status: ON"),
        ("echo broken; exit 3", None),
        ("head -c 100000 /dev/zero", None),
        ("sleep 60", None),
        ("printf '\\377'", "�"),
    ],
)
def test_nvidias_tool_is_asked_with_patience_that_ends(script, wanted, tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setattr("strongroom.launch.doctor.probe._NVIDIA_SMI", ("/nowhere/nvidia-smi", os.fspath(tool)))
    monkeypatch.setattr("strongroom.launch.doctor.probe._PATIENCE", 1.0)
    assert LinuxProbe(Path("/"), Host().resolve).gpu_says("-f") == wanted
