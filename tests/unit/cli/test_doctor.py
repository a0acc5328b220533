import hosts
import pytest

from strongroom.launch.doctor import CHECKS


@pytest.fixture
def answering(monkeypatch):
    """Copies of hosts answer as their machine would."""

    def act(machine, root):
        host = machine.written(root)
        monkeypatch.setattr("strongroom.cli.doctor.machine", lambda path: host)  # noqa: ARG005  # there is only one
        return root

    return act


def test_a_host_that_is_ready_ends_with_0(strongroom, answering, tmp_path):
    ran = strongroom("doctor", "--root", answering(hosts.SAPPHIRE_RAPIDS, tmp_path / "host"))
    assert ran.code == 0
    assert "tdx       ready" in ran.out
    assert "what to do" not in ran.out
    assert "host.snp" not in ran.out


def test_asked_for_what_it_is_not_it_ends_with_1_and_says_what_to_do(strongroom, answering, tmp_path):
    ran = strongroom("doctor", "--root", answering(hosts.TDX_OFF_IN_BIOS, tmp_path / "host"), "--for", "tdx")
    assert ran.code == 1
    assert "host.tdx.seam" in ran.out
    assert "In the firmware's setup switch on TME" in ran.out
    assert "tdx       not ready" in ran.out


def test_one_unknown_is_enough_to_end_with_1(strongroom, answering, tmp_path):
    machine = hosts.GENOA.but(synchronised=None)
    root = answering(machine, tmp_path / "host")
    assert strongroom("doctor", "--root", root, "--for", "snp").code == 0
    assert strongroom("doctor", "--root", root, "--for", "snp", "--for", "launcher").code == 1


def test_programs_get_every_check_and_every_purpose(strongroom, answering, tmp_path):
    ran = strongroom("doctor", "--root", answering(hosts.H100_OFF, tmp_path / "host"), "--for", "gpu", "--json")
    assert ran.code == 1
    assert [row["id"] for row in ran.document["checks"]] == [check.id for check in CHECKS]
    assert ran.document["asked"] == ["gpu"]
    assert ran.document["ready"] == {"tdx": True, "snp": False, "gpu": False, "worker": True, "launcher": True}
    assert not ran.document["accepted"]


def test_an_empty_copy_is_ready_for_nothing(strongroom, tmp_path):
    for purpose in ("tdx", "snp", "gpu", "worker", "launcher"):
        assert strongroom("doctor", "--root", tmp_path, "--for", purpose).code == 1
    assert strongroom("doctor", "--root", tmp_path).code == 1


def test_a_root_that_is_not_there_is_a_matter_of_usage(strongroom, tmp_path):
    assert strongroom("doctor", "--root", tmp_path / "nowhere").code == 2


def test_this_machine_is_looked_at_without_breaking(strongroom):
    ran = strongroom("doctor", "--json")
    assert ran.code == (0 if ran.document["accepted"] else 1)


def test_the_matrix_looks_at_no_host(strongroom, monkeypatch):
    monkeypatch.setattr("strongroom.cli.doctor.machine", None)
    ran = strongroom("doctor", "--matrix")
    assert ran.code == 0
    assert "580.65.06" in ran.out
    assert "not said" in ran.out
    document = strongroom("doctor", "--matrix", "--json").document
    assert {row["tee"] for row in document["hosts"]} == {"tdx", "snp"}
    assert all(row["source"] in document["sources"] for row in (*document["hosts"], *document["gpus"]))
