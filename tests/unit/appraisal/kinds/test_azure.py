"""Evidence of Azure as one: what the paravisor says, and what it cannot say; one spelling, and a size."""

from __future__ import annotations

import json

import pytest

from strongroom.appraisal.kinds import KINDS
from strongroom.appraisal.kinds.above import MAX_BYTES
from strongroom.errors import MalformedEvidence
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom_sim.azure import AzureVm
from strongroom_sim.ca import Installation
from strongroom_sim.chip import Chip
from strongroom_sim.tpm import Tpm, TpmMaker

NOW = 1_790_000_000
QUALIFYING = bytes(range(32))
AZ_TDX = KINDS["az-tdx"]


class Liar(AzureVm):
    """A paravisor that writes into its words about the VM what others measured."""

    said: dict[str, object]

    def runtime(self) -> bytes:
        document = json.loads(super().runtime())
        document["vm-configuration"] |= self.said
        return json.dumps(document).encode("ascii")


@pytest.fixture(scope="module")
def installation() -> Installation:
    return Installation.ephemeral(NOW)


@pytest.fixture(scope="module")
def anchors(installation: Installation) -> list[TrustAnchor]:
    return [installation_anchor("tdx", installation.root_pem)]


@pytest.fixture(scope="module")
def machine() -> Tpm:
    tpm = Tpm(TpmMaker.generate(now=NOW), NOW)
    tpm.boot(b"image")
    return tpm


def evidence(vm: AzureVm, installation: Installation) -> bytes:
    return vm.evidence(Chip(installation, mrtd=b"\x66" * 48, sept_ve_disable=False).quote, QUALIFYING)


def judged(quote: bytes, installation: Installation, anchors: list[TrustAnchor]) -> Genuine:
    return AZ_TDX.judge(quote, b"", collateral=installation.bundle(NOW), anchors=anchors, now=NOW)


def test_a_paravisor_of_ones_own_cannot_name_what_hardware_and_vtpm_measured(
    installation: Installation, anchors: list[TrustAnchor], machine: Tpm
):
    good = judged(evidence(AzureVm(machine), installation), installation, anchors)
    vm, own = Liar(machine), {"ak_name", "vmUniqueId", "runtime_user_data", "secure_boot", "tpm_enabled"}
    names = [*(good.claims.keys() - own), "tcb_status_module", "mitigations_launch", "debug"]
    for start in range(0, len(names), 20):
        vm.said = {name.replace("_", "-"): "00" * 8 for name in names[start : start + 20]}
        genuine = judged(evidence(vm, installation), installation, anchors)
        assert genuine.holds
        told = {name: value for name, value in genuine.claims.items() if name not in own}
        assert told == {name: value for name, value in good.claims.items() if name not in own}
    assert good.claims["mrtd"] == "66" * 48
    assert good.claims["pcr0"] == machine.pcrs["sha256"][0].hex()


def test_evidence_has_one_spelling(installation: Installation, anchors: list[TrustAnchor], machine: Tpm):
    quote = evidence(AzureVm(machine), installation)
    for other in (
        quote + b"\n",
        json.dumps(json.loads(quote)).encode(),
        quote.replace(b'"hardware"', b'"\\u0068ardware"'),
    ):
        with pytest.raises(MalformedEvidence):
            judged(other, installation, anchors)


def test_evidence_that_is_too_long_is_refused_for_that(
    installation: Installation, anchors: list[TrustAnchor], machine: Tpm
):
    quote = evidence(AzureVm(machine), installation)
    with pytest.raises(MalformedEvidence, match=str(MAX_BYTES)):
        judged(quote.ljust(MAX_BYTES + 1), installation, anchors)


@pytest.mark.parametrize("bad", [b"", b"{}", b"[]", b"\xff", b"{", b'{"type":"strongroom/azure-evidence/v1"}'])
def test_what_is_no_record_is_malformed_evidence(installation: Installation, anchors: list[TrustAnchor], bad: bytes):
    with pytest.raises(MalformedEvidence):
        judged(bad, installation, anchors)
