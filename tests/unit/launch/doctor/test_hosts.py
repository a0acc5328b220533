import json

import hosts
import pytest
from hosts import ALIASES_NOT_CHECKED, GENOA, H100, H100_OFF, LAPTOP, MICRO_VM, READY, SAPPHIRE_RAPIDS, TDX_OFF_IN_BIOS

from strongroom.launch.doctor import CHECKS, PURPOSES, Status, examine, purposes_of


def statuses(machine, tmp_path):
    report = examine(machine.written(tmp_path / "host"), tuple(PURPOSES))
    return {check.id.removeprefix("host."): finding.status for check, finding in report.findings}, report


def not_passed(found, area):
    return {name for name, status in found.items() if name.startswith(f"{area}.") and status is not Status.PASS}


@pytest.mark.parametrize("purpose", READY)
def test_a_host_that_is_ready_is_found_ready(purpose, tmp_path):
    _, report = statuses(READY[purpose], tmp_path)
    lacking = [(c.id, f.detail) for c, f in report.findings if purpose in c.purposes and f.status is not Status.PASS]
    assert not lacking
    assert report.ready(purpose)


@pytest.mark.parametrize(
    ("machine", "wanted"),
    [(SAPPHIRE_RAPIDS, ("tdx", "launcher")), (GENOA, ("snp", "launcher")), (H100, ("tdx", "gpu", "launcher"))],
)
def test_where_nobody_says_what_a_host_is_to_be_it_is_what_it_looks_like(machine, wanted, tmp_path):
    host = machine.written(tmp_path / "host")
    assert purposes_of(host) == wanted
    assert examine(host, wanted).accepted


def test_a_host_that_looks_like_nothing_is_asked_for_everything(tmp_path):
    host = hosts.SERVER.written(tmp_path / "host")
    assert purposes_of(host) == tuple(PURPOSES)
    assert not examine(host, purposes_of(host)).accepted


def test_nothing_asked_is_not_ready(tmp_path):
    host = SAPPHIRE_RAPIDS.written(tmp_path / "host")
    assert not examine(host, ()).accepted
    assert not examine(host, ("moon",)).accepted


def test_tdx_off_in_the_firmwares_setup_is_seen_everywhere(tmp_path):
    found, report = statuses(TDX_OFF_IN_BIOS, tmp_path)
    assert not_passed(found, "tdx") == {
        f"tdx.{n}" for n in ("cpu", "kvm", "module", "memory_encryption", "seam", "keys", "sgx", "quotes", "capacity")
    }
    assert not report.ready("tdx")
    assert report.ready("launcher")
    assert found["platform.kvm"] is Status.PASS


def test_firmware_that_has_not_looked_for_aliases_fails_that_alone(tmp_path):
    found, report = statuses(ALIASES_NOT_CHECKED, tmp_path)
    assert not_passed(found, "snp") == {"snp.aliases"}
    assert found["snp.aliases"] is Status.FAIL
    assert not report.ready("snp")


def test_a_gpu_that_is_not_in_confidential_mode_fails_that_alone(tmp_path):
    found, report = statuses(H100_OFF, tmp_path)
    assert not_passed(found, "gpu") == {"gpu.mode"}
    assert found["gpu.mode"] is Status.FAIL
    assert not report.ready("gpu")


def test_a_laptop_is_ready_for_nothing(tmp_path):
    found, report = statuses(LAPTOP, tmp_path)
    assert not any(report.ready(purpose) for purpose in PURPOSES)
    assert {"boot.secure", "boot.lockdown", "worker.swap", "worker.cores"} <= {
        n for n, s in found.items() if s is Status.FAIL
    }
    assert found["platform.kvm"] is Status.PASS


def test_a_machine_without_any_tee_is_the_true_negative(tmp_path):
    found, report = statuses(MICRO_VM, tmp_path)
    assert not any(report.ready(purpose) for purpose in PURPOSES)
    assert found["platform.kvm"] is Status.FAIL
    for area in ("tdx", "snp", "gpu"):
        assert not_passed(found, area) == {name for name in found if name.startswith(f"{area}.")}
    details = {check.id: finding.detail for check, finding in report.findings}
    assert "kvm_pvm" in details["host.platform.kvm"]


def test_whatever_does_not_pass_says_what_to_do(tmp_path):
    for number, machine in enumerate((SAPPHIRE_RAPIDS, GENOA, H100_OFF, LAPTOP, MICRO_VM, hosts.Machine({}))):
        _, report = statuses(machine, tmp_path / str(number))
        for check, finding in report.findings:
            assert finding.detail, check.id
            assert bool(finding.remedy) == (finding.status is not Status.PASS), check.id


def test_an_empty_tree_passes_nothing(tmp_path):
    found, report = statuses(hosts.Machine({}), tmp_path)
    assert Status.PASS not in found.values()
    assert not any(report.ready(purpose) for purpose in PURPOSES)


def test_every_check_is_asked_for_by_somebody_and_every_purpose_asks():
    assert len({check.id for check in CHECKS}) == len(CHECKS)
    assert all(
        check.purposes and check.purposes <= PURPOSES.keys() and check.passes_if and check.source for check in CHECKS
    )
    assert set().union(*(check.purposes for check in CHECKS)) == PURPOSES.keys()


def test_the_form_for_programs_has_every_check_and_every_purpose(tmp_path):
    _, report = statuses(GENOA, tmp_path)
    document = json.loads(json.dumps(report.as_dict()))
    assert [row["id"] for row in document["checks"]] == [check.id for check in CHECKS]
    assert all(row.keys() == {"id", "area", "status", "detail", "remedy"} for row in document["checks"])
    assert document["ready"] == {"tdx": False, "snp": True, "gpu": False, "worker": True, "launcher": True}
