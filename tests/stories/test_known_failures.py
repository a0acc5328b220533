"""Attacks and other verifiers' failures that became known, carried out again on simulated hardware; each is refused.

The whole table is in docs/reference/evidence.md. What stands beside the code that stops it is not repeated here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from functools import cached_property

import pytest

from strongroom.appraisal import appraise
from strongroom.appraisal.formats import collateral_of, read
from strongroom.appraisal.genuine import appraise_genuine
from strongroom.appraisal.pile import Pile
from strongroom.appraisal.policies import template
from strongroom.appraisal.signed import Known
from strongroom.collateral import Cache, Checks
from strongroom.collateral.items import Part, TcbInfo
from strongroom.crypto.signatures import fingerprint, generate_ed25519
from strongroom.errors import CollateralStale, MalformedEvidence, MalformedRecord
from strongroom.records import codec
from strongroom.records.digest import digest_bytes
from strongroom.records.evidence import Collateral, EvidenceBundle
from strongroom.records.policy import CustodyPolicy, Reference, Requirement
from strongroom.records.reference import CustodyList, Machine
from strongroom.records.verdict import Level, Status
from strongroom.records.worker import Statement
from strongroom.tee import tdx
from strongroom.tee.anchors import VENDOR_ANCHORS, installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys
from strongroom_sim import Chip, Installation
from strongroom_sim.broken import tdx as broken_tdx
from strongroom_sim.sgx import SgxEnclave
from strongroom_sim.snp import SnpChip, SnpInstallation
from strongroom_sim.tcb import EVALUATION_NUMBER, FMSPC, PCESVN, TEE_TCB_SVN, TEE_TCB_SVN_OUT_OF_DATE

NOW = 1_790_000_000
NONCE, RECORDED = bytes(range(32)), bytes(32)
PURPOSE = "session"
IMAGE, MODEL, OTHER, CONFIGURATION = (digest_bytes(name) for name in (b"image", b"model", b"other", b"configuration"))
MEASURED, CHANGED = bytes(48), bytes([1]) * 48
PERFMON, MIGRATABLE = 63, 29
CUSTODIAN, WHO_WARNS = generate_ed25519(), generate_ed25519()
REGISTERS = {
    "tdx": {"mrtd": MEASURED, "rtmr0": bytes(48), "rtmr1": bytes(48), "rtmr2": bytes(48)},
    "sgx": {"mrenclave": bytes(32)},
    "snp": {"measurement": MEASURED},
}


@dataclass
class Device:
    """Hardware that signs, where it has neither a run-time register nor a log."""

    signer: SgxEnclave | SnpChip

    def quote(self, report_data):
        return self.signer.quote(report_data)

    def log(self):
        return b""


@dataclass
class Place:
    """A worker on one machine, and what its verifier knows: tests change one thing each."""

    kind: str
    device: object
    collateral: Collateral
    root: bytes
    keys: WorkerKeys = field(default_factory=lambda: WorkerKeys.generate(now=NOW))

    @property
    def anchors(self):
        return (installation_anchor(self.kind, self.root),)

    @property
    def policy(self):
        registers = {name: (value.hex(),) for name, value in REGISTERS[self.kind].items()}
        references = [Reference(IMAGE, self.kind, registers)]
        return template("wanted", references=references, artifacts=[MODEL], simulated=True, kind=self.kind)

    @cached_property
    def bundle(self):
        """What the worker shows. A register that was extended stays extended, so it proves itself once."""
        return self.prove()

    def prove(self, *, image=IMAGE, measured=(MODEL,), said=(MODEL,), nonce=NONCE):
        """Evidence of a worker that opened the artifacts `measured` and says that it opened `said`."""
        opened = Statement("inference", image, None, measured, CONFIGURATION)
        attester = Attester(
            self.device, lambda: self.collateral, kind=self.kind, keyset=self.keys.keyset, statement=opened
        )
        attester._statement = replace(opened, artifacts=said)
        return attester.prove(nonce, PURPOSE)

    def judge(self, bundle=None, **changed):
        how = {"policy": self.policy, "anchors": self.anchors, "nonce": NONCE, "purpose": PURPOSE, "now": NOW}
        return appraise(bundle or self.bundle, **(how | changed))

    def failed(self, bundle=None, **changed):
        """The checks that do not pass; there must be some."""
        verdict = self.judge(bundle, **changed)
        assert not verdict.accepted
        return {check.id for check in verdict.failed}

    def exposed(self, quote=None, **changed):
        """The same of bare evidence without a policy: what fails, apart from what nobody asked about."""
        how = {"collateral": self.collateral, "anchors": self.anchors, "report_data": None, "now": NOW}
        judged = appraise_genuine(self.kind, quote or self.device.quote(bytes(64)), b"", **(how | changed))
        return {check.id for check in judged.verdict.checks if check.status is Status.FAIL}


@pytest.fixture(scope="module")
def intel(tmp_path_factory):
    return Installation.create(tmp_path_factory.mktemp("intel") / "installation", now=NOW)


@pytest.fixture(scope="module")
def amd():
    return SnpInstallation.generate(now=NOW)


@pytest.fixture
def place(intel, amd):
    def make(kind="tdx", **said):
        if kind == "snp":
            chip = SnpChip(amd, **({"measurement": MEASURED, "now": NOW} | said))
            return Place("snp", Device(chip), Collateral(amd=chip.collateral(NOW)), amd.root_pem)
        if kind == "sgx":
            enclave = SgxEnclave(intel, **({"mrenclave": bytes(32)} | said))
            return Place("sgx", Device(enclave), Collateral(intel=intel.collateral(NOW, kind="sgx")), intel.root_pem)
        return Place("tdx", Chip(intel, **({"mrtd": MEASURED} | said)), intel.bundle(NOW), intel.root_pem)

    return make


def listed(verdict, identifier, value, key=CUSTODIAN):
    """What a custodian signed about one machine."""
    machine = Machine(identifier, value, verdict, "hall 1", "DE")
    return Known(custody=((fingerprint(key.public_key()), CustodyList("custodian", 1, NOW - 1, NOW + 1, (machine,))),))


# --- genuine chains of machines that somebody opened ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sgx", "snp", "tdx"])
def test_wiretap_battering_ram_and_tee_fail_a_forged_quote_has_a_perfect_chain_and_the_wrong_machine(place, kind):
    """Who took the keys out of a machine signs what the policy wants, and every check of the vendor's passes.

    WireTap did so to SGX, Battering RAM to SGX and SEV-SNP, TEE.fail to SGX, TDX and SEV-SNP. What such a quote cannot be
    rid of is the machine: a custodian denies it, or no custodian allows it.
    """
    forged = place(kind)
    identifier = {"sgx": "ppid", "tdx": "ppid", "snp": "chip_id"}[kind]
    machine = str(forged.judge().claims[identifier])
    assert forged.judge().accepted
    assert forged.failed(known=listed("deny", identifier, machine, WHO_WARNS)) == {"policy.custody.denied"}

    owned = CustodyPolicy(
        custodians=Requirement((fingerprint(CUSTODIAN.public_key()),)),
        minimum=1,
        sites=Requirement(any="wherever its custodian has it"),
        jurisdictions=Requirement(("DE",)),
    )
    policy = replace(forged.policy, custody=owned)
    assert forged.judge(policy=policy, known=listed("allow", identifier, machine)).accepted
    elsewhere = listed("allow", identifier, "00" * (len(machine) // 2))
    assert "policy.custody.allowed" in forged.failed(policy=policy, known=elsewhere)
    assert "policy.custody.allowed" in forged.failed(
        policy=policy, known=listed("allow", identifier, machine, WHO_WARNS)
    )


# --- firmware and guests with known faults --------------------------------------------------------------------------------


def test_wesee_a_guest_kernel_without_the_fix_is_no_reference_value(place):
    """What the host may inject is parried by the guest's kernel, so it is the kernel's measurement that must be admitted."""
    assert place("snp").judge().accepted
    before = place("snp", measurement=CHANGED)
    assert {"statement.image"} == {c.id for c in before.judge().checks if c.status is Status.FAIL}


def test_tdxdown_a_module_before_the_fix_is_out_of_date_and_one_that_nobody_named_is_refused(place):
    old = place(tee_tcb_svn=TEE_TCB_SVN_OUT_OF_DATE)
    assert old.failed() == {"policy.tdx.tcb_status", "policy.tdx.advisories"}
    assert old.exposed() == {"tdx.tcb"}
    current = place()
    named = str(current.judge().claims["mrseam"])
    pinned = replace(current.policy, tdx=replace(current.policy.tdx, mrseam=Requirement((named,))))
    assert current.judge(policy=pinned).accepted
    assert place(mrseam=CHANGED).failed(policy=pinned) == {"policy.tdx.mrseam"}


def test_tdx_1_5_migration_and_service_tds_a_td_that_another_may_take_elsewhere_is_refused(place):
    bound = place(tee_tcb_svn2=TEE_TCB_SVN, mr_service_td=CHANGED)
    assert bound.failed() == {"policy.tdx.mr_service_td"}
    assert bound.exposed() == {"tdx.service_td"}
    assert place(attributes=[MIGRATABLE]).failed() == {"policy.tdx.migratable"}


def test_perfmon_a_td_whose_counters_its_host_can_read_is_refused(place):
    counted = place(attributes=[PERFMON])
    assert counted.failed() == {"policy.tdx.perfmon"}
    assert counted.exposed() == {"tdx.perfmon"}


# --- what other verifiers did not look at ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "check",
    [
        "tdx.qe.identity",
        "tdx.tcb.qe",
        "tdx.tcb.module",
        "tdx.quote.header",
        "tdx.tcb_info.signer",
        "tdx.tcb_info.pceid",
    ],
)
def test_dcap_qvl_the_quoting_enclave_the_module_the_vendor_and_the_signers_role_are_checks_of_their_own(
    intel, place, check
):
    """Its gaps of 2026: QE identity, module identity, vendor id; a PCK certificate that signs collateral; the PCEID."""
    quote, collateral, now = broken_tdx.broken(intel, NOW)[check]
    assert place().exposed(quote, collateral=Collateral(intel=collateral), now=now) == {check}


def test_dcap_qvl_a_quote_with_something_behind_it_is_no_quote(place):
    quote = place().device.quote(bytes(64))
    for behind in (b"\1", bytes(99) + b"\1"):
        with pytest.raises(MalformedEvidence):
            tdx.parse_quote(quote + behind)


def test_go_tdx_guest_a_module_that_is_up_to_date_does_not_replace_a_platform_that_is_not(intel, place):
    """There the module's status took the place of the platform's; here the worst of both counts, and both are claimed."""
    levels = json.loads(intel.collateral(NOW).tcb_info)["tcbLevels"]
    newest = {**levels[0], "tcb": {**levels[0]["tcb"], "pcesvn": PCESVN + 1}}
    signed = intel.resigned(intel.collateral(NOW), "tcb_info", tcbLevels=[newest, *levels[1:]])
    behind = replace(place(), collateral=Collateral(intel=signed))
    verdict = behind.judge()
    assert {"tcb_status_platform": "OutOfDate", "tcb_status_module": "UpToDate"}.items() <= verdict.claims.items()
    assert {check.id for check in verdict.failed} == {"policy.tdx.tcb_status", "policy.tdx.advisories"}
    assert behind.exposed() == {"tdx.tcb"}


# --- ways in that were left open for tests --------------------------------------------------------------------------------


def test_occlum_1119_a_nonce_that_somebody_wrote_over_is_not_the_one_that_was_signed(place):
    """Whoever stands between can write the verifier's nonce into a record, and not under the hardware's signature."""
    worker = place()
    recorded = worker.prove(nonce=RECORDED)
    rewritten = replace(recorded, evidence=replace(recorded.evidence, nonce=NONCE))
    assert worker.failed(recorded) == {"binding.nonce"}
    assert "binding.report_data" in worker.failed(rewritten)


@pytest.mark.parametrize("member", ["test_purpose", "simulated", "debug", "skip_verification"])
def test_opennhp_1732_a_member_for_tests_opens_nothing(place, member):
    """In our own record it is unknown, and refused; beside a bare quote it is not read, and changes no check."""
    worker = place()
    record = codec.to_json(worker.prove())
    record["evidence"][member] = True
    with pytest.raises(MalformedRecord, match="unknown member"):
        codec.from_json(EvidenceBundle, record)

    forged = bytearray(worker.device.quote(bytes(64)))
    forged[100] ^= 1
    found = read(json.dumps({"quote": bytes(forged).hex(), member: True}).encode())
    assert found.quote == bytes(forged)
    assert worker.exposed(found.quote) == {"tdx.quote.signature"}


def test_neunode_what_calls_itself_simulated_is_judged_like_all_else_and_its_root_alone_makes_the_level(place):
    worker = place()
    bundle = worker.bundle
    assert worker.judge(bundle).level is Level.SIMULATED
    assert worker.judge(bundle, anchors=VENDOR_ANCHORS).level is Level.NONE
    real = replace(worker.policy, levels=(Level.CONFIDENTIAL,))
    assert worker.failed(bundle, policy=real) == {"policy.level"}
    for kind in ("simulated", "none", "test", ""):
        with pytest.raises(MalformedEvidence, match="no verifier"):
            worker.judge(replace(bundle, evidence=replace(bundle.evidence, kind=kind)))


# --- what is measured is what runs; what nobody signed is not said --------------------------------------------------------


def test_lium_what_is_measured_is_what_counts_and_no_gpu_is_vouched_for(place):
    """A statement is believed where it is measured. Evidence of a GPU has no verifier here, so it is refused, not skipped."""
    worker, says_less, says_other = place(), place(), place()
    assert "statement.image" in says_other.failed(says_other.prove(image=OTHER))
    assert says_less.failed(says_less.prove(measured=(MODEL, OTHER))) == {
        "policy.artifacts"
    }  # opened later, and not admitted
    for kind in ("nvidia", "gpu"):
        with pytest.raises(MalformedEvidence, match="no verifier"):
            worker.judge(replace(worker.bundle, evidence=replace(worker.bundle.evidence, kind=kind)))


def test_nvml_and_the_like_what_no_hardware_signed_is_no_claim(intel, place):
    """The platform's name is what its certificate says: not the header's user data, and not what a container says."""
    worker = place()
    quote = worker.device.quote(bytes(64))
    said = {"quote": quote.hex(), "ppid": "00" * 16, "driver_version": "999.99", "vbios_version": "99"}
    found = read(json.dumps(said).encode())
    collateral = collateral_of(found, Pile(bundles=[worker.collateral]))
    claims = appraise_genuine(
        found.kind, found.quote, found.log, collateral=collateral, anchors=worker.anchors, report_data=None, now=NOW
    ).verdict.claims
    assert claims["ppid"] == intel.platform.ppid.hex()
    assert not {"driver_version", "vbios_version"} & claims.keys()
    assert tdx.parse_quote(quote).header.user_data.hex() not in map(str, claims.values())


# --- relays and old papers ------------------------------------------------------------------------------------------------


def test_ra_tls_relay_evidence_that_is_passed_on_vouches_for_nobody_elses_key_and_for_no_later_question(place):
    """A middleman has a genuine worker's evidence. His own key is not in it, and it answers one nonce only.

    The key that requests are sealed to is in the keyset, and the keyset is under the hardware's signature; so whoever ends
    the TLS connection reads nothing.
    """
    worker = place()
    bundle = worker.bundle
    middleman = WorkerKeys.generate(now=NOW).keyset
    diverted = replace(bundle, evidence=replace(bundle.evidence, keyset=middleman))
    assert worker.failed(diverted) == {"binding.report_data"}
    one_key = replace(bundle.evidence.keyset, channel=middleman.channel)
    assert worker.failed(replace(bundle, evidence=replace(bundle.evidence, keyset=one_key))) == {"binding.report_data"}
    assert worker.failed(bundle, nonce=RECORDED) == {"binding.nonce"}


def test_rollback_collateral_below_the_policys_floor_or_older_than_what_was_seen_is_refused(intel, place, tmp_path):
    worker = place()
    floor = replace(worker.policy.tdx, tcb_evaluation_minimum=EVALUATION_NUMBER + 1)
    assert worker.failed(policy=replace(worker.policy, tdx=floor)) == {"policy.tdx.tcb_evaluation"}

    cache = Cache(tmp_path / "cache", Checks(worker.anchors))
    item, signed = TcbInfo("tdx", FMSPC, "standard"), intel.collateral(NOW)
    newer = intel.resigned(signed, "tcb_info", tcbEvaluationDataNumber=EVALUATION_NUMBER + 1)
    cache.put(item, Part(newer.tcb_info.encode(), newer.tcb_info_signature, newer.tcb_info_chain), NOW)
    with pytest.raises(CollateralStale):
        cache.put(item, Part(signed.tcb_info.encode(), signed.tcb_info_signature, signed.tcb_info_chain), NOW)
