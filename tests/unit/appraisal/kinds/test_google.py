"""Google's confidential VMs: hardware and vTPM are of one machine only if the hardware says so."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from strongroom.appraisal.formats import collateral_of, read
from strongroom.appraisal.kinds import KINDS
from strongroom.appraisal.pile import Pile
from strongroom.errors import MalformedEvidence
from strongroom.records import codec
from strongroom.records.evidence import Collateral
from strongroom.records.google import GoogleEvidence, hardware_data
from strongroom.records.verdict import RootClass, Status
from strongroom.tee.anchors import TrustAnchor, installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom_sim.ca import Installation
from strongroom_sim.chip import Chip
from strongroom_sim.google import GoogleVm
from strongroom_sim.tpm import Tpm, TpmMaker

NOW = 1_790_000_000
QUALIFYING = bytes(range(32))
GCE_TDX = KINDS["gce-tdx"]


class Place:
    """A host with a fake chip, and VMs with a vTPM each."""

    def __init__(self) -> None:
        self.installation, self.maker = Installation.ephemeral(NOW), TpmMaker.generate(now=NOW)
        self.chip = Chip(self.installation, mrtd=b"\x66" * 48)
        self.anchors = [
            installation_anchor("tdx", self.installation.root_pem),
            installation_anchor("tpm", self.maker.root_pem),
        ]
        self.vm, self.other = self.machine(), self.machine()
        self.good = self.vm.evidence(self.chip.quote, QUALIFYING)

    def machine(self) -> GoogleVm:
        tpm = Tpm(self.maker, NOW)
        tpm.boot(b"image")
        return GoogleVm(tpm, NOW)

    def collateral(self, vm: GoogleVm | None = None) -> Collateral:
        return replace(self.installation.bundle(NOW), tpm=(vm or self.vm).collateral(NOW))

    def judge(
        self, quote: bytes, *, collateral: Collateral | None = None, anchors: list[TrustAnchor] | None = None
    ) -> Genuine:
        return GCE_TDX.judge(
            quote, b"", collateral=collateral or self.collateral(), anchors=anchors or self.anchors, now=NOW
        )


@pytest.fixture(scope="module")
def place() -> Place:
    return Place()


def wrong(genuine: Genuine) -> dict[str, Status]:
    return {check.id: check.status for check in genuine.checks if check.status is not Status.PASS}


def test_what_was_asked_is_bound_by_the_vtpm_and_so_by_the_hardware(place: Place):
    genuine = place.judge(place.good)
    assert genuine.holds
    assert genuine.claims["report_data"] == QUALIFYING.hex()
    assert genuine.claims["mrtd"] == "66" * 48
    assert genuine.claims["pcr0"] == place.vm.tpm.pcrs["sha256"][0].hex()
    assert genuine.claims["gce_instance"] == "strongroom-sim"


def test_a_genuine_quote_of_another_machine_is_refused(place: Place):
    """Two machines of which each is genuine: the hardware of one, the vTPM of the other."""
    mixed = codec.decode(GoogleEvidence, place.good)
    foreign = codec.decode(GoogleEvidence, place.other.evidence(place.chip.quote, QUALIFYING))
    shown = codec.encode(replace(foreign, hardware=mixed.hardware))
    assert wrong(place.judge(shown, collateral=place.collateral(place.other))) == {"gce.hardware": Status.FAIL}


def test_a_recorded_report_does_not_serve_a_new_quote(place: Place):
    old = codec.decode(GoogleEvidence, place.good)
    new = codec.decode(GoogleEvidence, place.vm.evidence(place.chip.quote, bytes(32)))
    assert wrong(place.judge(codec.encode(replace(new, hardware=old.hardware)))) == {"gce.hardware": Status.FAIL}


def test_hardware_that_binds_the_request_itself_is_not_tied_to_a_vtpm(place: Place):
    evidence = place.vm.evidence(lambda _: place.chip.quote(QUALIFYING + bytes(32)), QUALIFYING)
    assert wrong(place.judge(evidence)) == {"gce.hardware": Status.FAIL}


def test_an_attestation_key_of_no_google_machine_is_not_enough(place: Place):
    bare = codec.encode(replace(codec.decode(GoogleEvidence, place.good), certificate=b""))
    plain = replace(place.collateral(), tpm=place.vm.tpm.ak_collateral(NOW))
    assert wrong(place.judge(bare, collateral=plain)) == {"gce.machine": Status.FAIL}


def test_a_certificate_that_is_not_the_one_that_vouches_is_refused(place: Place):
    shown = replace(codec.decode(GoogleEvidence, place.good), certificate=place.other.certificate)
    assert wrong(place.judge(codec.encode(shown))) == {"gce.machine": Status.FAIL}


def test_without_hardware_nothing_is_tied(place: Place):
    found = wrong(place.judge(place.good, anchors=place.anchors[1:]))
    assert found["gce.hardware"] is Status.NOT_RUN
    found = wrong(place.judge(place.good, collateral=place.installation.bundle(NOW)))
    assert found["gce.hardware"] is Status.NOT_RUN
    assert found["gce.machine"] is Status.NOT_RUN


def test_the_class_is_that_of_the_weaker_root(place: Place):
    silicon = replace(place.anchors[0], root_class=RootClass.SILICON)
    for tpm, expected in (
        (RootClass.CLOUD, RootClass.CLOUD),
        (RootClass.SILICON, None),  # a maker of chips says nothing of Google's machines
        (RootClass.INSTALLATION, RootClass.INSTALLATION),
    ):
        above = replace(place.anchors[1], root_class=tpm)
        assert place.judge(place.good, anchors=[silicon, above]).root_class is expected
    assert place.judge(place.good, anchors=[silicon]).root_class is None
    assert place.judge(place.good, anchors=place.anchors[1:]).root_class is None


def test_what_hardware_measured_stands_before_any_word_of_the_cloud(place: Place):
    """No claim is made by both, so none can hide the other; whoever adds one must decide which counts."""
    alone = KINDS["tdx"].judge(
        codec.decode(GoogleEvidence, place.good).hardware,
        b"",
        collateral=place.collateral(),
        anchors=place.anchors,
        now=NOW,
    )
    tpm = codec.encode(codec.decode(GoogleEvidence, place.good).tpm)
    above = KINDS["tpm"].judge(tpm, b"", collateral=place.collateral(), anchors=place.anchors, now=NOW)
    assert alone.claims.keys() & above.claims.keys() == {"report_data"}


def test_a_file_is_recognised_and_its_collateral_found(place: Place):
    presented = read(place.good)
    assert presented.kind == "gce-tdx"
    pile = Pile(bundles=[place.installation.bundle(NOW)], now=NOW)
    for certificate in (place.maker.ca, place.maker.root):
        pile.certificates.append(certificate)
    gathered = collateral_of(presented, pile)
    assert gathered.intel is not None
    assert gathered.tpm is not None
    assert gathered.tpm.chain == place.vm.collateral(NOW).chain


@pytest.mark.parametrize("hardware", [b"", b"\x00" * 1184, bytes(5000)])
def test_a_record_without_hardware_of_a_known_kind_is_no_evidence(place: Place, hardware: bytes):
    shown = codec.encode(replace(codec.decode(GoogleEvidence, place.good), hardware=hardware))
    with pytest.raises(MalformedEvidence):
        read(shown)
    with pytest.raises(MalformedEvidence):
        place.judge(shown)


def test_evidence_has_one_spelling(place: Place):
    for other in (place.good + b"\n", json.dumps(json.loads(place.good)).encode()):
        with pytest.raises(MalformedEvidence):
            place.judge(other)


def test_what_the_hardware_signs_is_as_documented():
    text = b'{"ak_name":"000b00","qualifying_data":"AQI"}'
    import hashlib

    tag = b"strongroom/vtpm-binding/v1"
    framed = len(tag).to_bytes(2, "big") + tag + len(text).to_bytes(8, "big") + text
    assert hardware_data("000b00", b"\1\2") == hashlib.sha512(framed).digest()
