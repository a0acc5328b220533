"""A small mutation campaign over every kind; each defect that is planted is found; each explained freedom is shown at work."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from typing import Any

import pytest

from strongroom.appraisal.kinds import KINDS
from strongroom.appraisal.kinds import azure as azure_kind
from strongroom.appraisal.kinds import google as google_kind
from strongroom.crypto import cose, x509
from strongroom.errors import MalformedEvidence, SignatureInvalid
from strongroom.records.evidence import Collateral
from strongroom.tee.dcap import documents, levels, procedure, signatures
from strongroom.tee.eventlog import Event
from strongroom.tee.eventlog import check as log_check
from strongroom.tee.eventlog import digests as log_digests
from strongroom.tee.snp import endorsement
from strongroom.tee.tpm import keys as tpm_keys
from strongroom_sim.ca import sign_raw
from strongroom_sim.campaign import Tally, campaign, judge
from strongroom_sim.mutants import forges as all_forges
from strongroom_sim.mutants.blind import (
    COLLATERAL_LIMITS,
    LIMITS,
    MAX_LOG_BYTES,
    beyond_limit,
    change_blindly,
    too_long,
)
from strongroom_sim.mutants.explained import EXPLAINED, explain
from strongroom_sim.mutants.mutant import Change, Forge, Mutant, said
from strongroom_sim.subjects import Hardware

nitro_verify, snp_verify, tpm_verify = (
    import_module(f"strongroom.tee.{kind}.verify") for kind in ("nitro", "snp", "tpm")
)

NOW = 1_790_000_000
MUTATIONS = 300
TRIES = 3000


@pytest.fixture(scope="module")
def hardware() -> Hardware:
    return Hardware.make(NOW)


@pytest.fixture(scope="module")
def forges(hardware: Hardware) -> dict[str, Forge]:
    return all_forges.forges(hardware)


@pytest.fixture
def fresh() -> Iterator[None]:
    """Nothing that was verified before counts, neither in this test nor after it."""
    forget()
    yield
    forget()


def forget() -> None:
    procedure.forget()
    endorsement.PATHS.clear()
    endorsement.LISTS.clear()


def test_every_kind_has_mutants_and_a_limit():
    assert set(all_forges.KINDS) == KINDS.keys() == LIMITS.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_no_mutant_is_accepted_that_differs_in_something_checked(forges: dict[str, Forge], kind: str):
    tally = campaign(forges[kind], MUTATIONS, seed=11)
    assert [(found.where, found.wrong) for found in tally.findings] == []
    assert tally.mutations > 0.98 * MUTATIONS
    assert tally.aware >= 0.48 * MUTATIONS
    assert min(tally.by_parser, tally.by_verifier, tally.other_claims, sum(tally.explained.values())) > 0


def test_the_same_seed_makes_the_same_choices(forges: dict[str, Forge]):
    one, other = (campaign(forges["cca"], 60, seed=5) for _ in range(2))
    assert (one.mutations, one.aware, one.places) == (other.mutations, other.aware, other.places)


def raising(*_: Any, **__: Any) -> Any:
    raise IndexError


def true(*_: Any, **__: Any) -> bool:
    return True


def nothing(*_: Any, **__: Any) -> None:
    return None


def paravisor_last(hardware: Any, runtime: Any, told: Any, anchors: Any, now: int) -> Any:
    """The words of the paravisor over what was measured."""
    found = JOINED("az-snp", hardware, runtime, told, anchors, now)
    return replace(
        found, claims={**found.claims, **runtime.claims, "measurement": runtime.claims.get("vmUniqueId", "")}
    )


JOINED = azure_kind._joined


def believed(event: Event, bank: str) -> log_digests.Judgement:
    """The event, whatever its digest is."""
    found = JUDGED(event, bank)
    wrong = found.standing is log_digests.Standing.MISMATCH
    return replace(found, standing=log_digests.Standing.RECOMPUTED) if wrong else found


JUDGED = log_digests.judge_event

DEFECTS: Mapping[str, tuple[str, Any, str, Any]] = {
    "the quote's signature is not checked": ("tdx", signatures, "check", true),
    "the quoting enclave may be anybody's": ("sgx", levels, "check_qe_identity", nothing),
    "the first TCB level counts for all": ("sgx", levels, "reaches", true),
    "a member of TCB info may occur twice": ("tdx", documents, "_members", dict),
    "a certificate holds for ever": ("tdx", x509, "_check_validity", nothing),
    "a path may pass through anybody": ("nitro", x509, "_check_issuer", nothing),
    "nobody is revoked": ("tpm", x509, "check_not_revoked", nothing),
    "critical extensions are passed over": ("snp", x509, "_check_critical", nothing),
    "the report's signature is not checked": ("snp", snp_verify, "_signature", true),
    "the report may come from another chip": ("snp", snp_verify, "_certified_tcb", true),
    "reserved fields may hold anything": ("snp", snp_verify, "_reserved", true),
    "the document's age is no matter": ("nitro", nitro_verify, "_age", lambda *_: 0),
    "a COSE message need not be signed": ("cca", cose, "verify", nothing),
    "the TPM need not have made it": ("tpm", tpm_verify, "_generated", true),
    "the key may sign anything": ("tpm", tpm_keys, "check_attributes", true),
    "registers need not be those quoted": ("tpm", tpm_verify, "_digest", true),
    "the log need not replay": ("tpm", log_check, "_compare", lambda found, *_: found),
    "an event need not be what was measured": ("tdx", log_digests, "judge_event", believed),
    "the paravisor names what was measured": ("az-snp", azure_kind, "_joined", lambda _, *rest: paravisor_last(*rest)),
    "the runtime claims are anybody's": (
        "az-tdx",
        azure_kind,
        "_check_runtime",
        lambda *_: azure_kind.judged("azure.runtime", True),
    ),
    "the hardware may mean another vTPM": (
        "gce-snp",
        google_kind,
        "_check_hardware",
        lambda *_: google_kind.judged("gce.hardware", True),
    ),
    "a parser is not total": ("cca", cose, "parse", raising),
}


SHOWN_BY = {
    "a member of TCB info may occur twice": "document",
    "the first TCB level counts for all": "extension",
    "a certificate holds for ever": "certificate",
    "a path may pass through anybody": "certificate",
    "critical extensions are passed over": "certificate",
    "nobody is revoked": "list",
    "the key may sign anything": "quote",
}
"""Planted defect -> the maker whose mutants show it soonest."""


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("defect", DEFECTS)
def test_a_planted_defect_is_found(forges: dict[str, Forge], monkeypatch: pytest.MonkeyPatch, defect: str):
    kind, place, name, worse = DEFECTS[defect]
    monkeypatch.setattr(place, name, worse)
    forge = forges[kind]
    if defect in SHOWN_BY:
        forge = replace(forge, makers={SHOWN_BY[defect]: forge.makers[SHOWN_BY[defect]]})
    for seed in range(TRIES // 100):
        if campaign(forge, 100, seed=seed).count:
            return
    pytest.fail(f"{TRIES} mutants of {kind} do not show that {defect}")


def test_claims_that_nobody_signed_are_found_though_the_verdict_is_a_refusal(forges: dict[str, Forge]):
    base = forges["tdx"].bases[0]
    lie = replace(base.genuine, checks=(), claims={**base.genuine.claims, "mrtd": "00"})
    mutant = change_blindly(random.Random(1), replace(base, kind=replace(base.kind, judge=lambda *_, **__: lie)))
    assert "mrtd that nobody signed" in judge(mutant, Tally())


def test_an_error_of_somebody_elses_is_found(forges: dict[str, Forge]):
    base = forges["snp"].bases[0]
    mutant = change_blindly(random.Random(1), replace(base, kind=replace(base.kind, judge=raising)))
    assert judge(mutant, Tally()) == "raises IndexError: "


def test_a_claim_that_does_not_follow_the_content_is_found(forges: dict[str, Forge]):
    base = forges["snp"].bases[0]
    change = Change(b"", "here", {"measurement": "22"})
    for claimed, wrong in (("11", "claims what the content does not say: measurement"), ("22", "")):
        told = replace(base.genuine, claims={**base.genuine.claims, "measurement": claimed})
        lying = replace(base, kind=replace(base.kind, judge=lambda *_, told=told, **__: told))
        assert judge(Mutant(lying, base.sample, change), Tally()).endswith(wrong)


def found_free(forge: Forge, name: str) -> Mutant:
    """A mutant that holds, says the same, and is explained by this entry."""
    chance = random.Random(name)
    if name.startswith("log."):
        forge = replace(forge, makers={"log": forge.makers["log"]})
    for number in range(40 * TRIES):
        blind = number % 8 == 7
        mutant = change_blindly(chance, chance.choice(forge.bases)) if blind else forge.aware(chance)
        if not blind and (mutant.change.free != name or mutant.change.says is None):
            continue
        try:
            genuine = mutant.base.judge(mutant.sample)
        except MalformedEvidence:
            continue
        if genuine.holds and said(genuine) == said(mutant.base.genuine) and explain(mutant) == name:
            return mutant
    pytest.fail(f"no mutant of {forge.kind} shows {name}")


FREE = {
    "ecdsa": "sgx", "certificate": "tpm", "crl": "tpm", "pem.lines": "sgx", "pem.end": "sgx", "dcap.header": "sgx",
    "dcap.enclave": "sgx", "dcap.cpusvn": "sgx", "dcap.auth": "sgx", "dcap.named": "sgx", "dcap.standing": "sgx",
    "dcap.pck_crl_chain": "sgx", "dcap.pck_chain": "sgx", "pck.member": "sgx", "snp.guest": "snp", "snp.model": "snp",
    "snp.leaf": "snp", "snp.lines": "snp", "cose.tag": "nitro", "cose.header": "cca", "cose.unprotected": "cca",
    "nitro.null": "nitro", "nitro.cbor": "nitro", "cca.wrapped": "cca", "cca.order": "cca", "cca.text": "cca",
    "cca.key_hash": "cca", "cca.key": "cca", "tpm.public": "tpm", "tpm.scalars": "tpm", "tpm.sha1": "tpm",
    "tpm.note": "tpm", "tpm.lists": "tpm", "azure.runtime": "az-tdx", "azure.ak": "az-tdx", "gce.certificate": "gce-tdx",
    "log.unmeasured": "tpm", "log.absent": "az-tdx",
    "log.growing": "tpm",
}  # fmt: skip
"""Explained freedom -> a kind that shows it."""


def test_each_explained_freedom_is_shown_below():
    assert FREE.keys() == EXPLAINED.keys()


@pytest.mark.parametrize("name", EXPLAINED)
def test_an_explained_freedom_is_one(forges: dict[str, Forge], name: str):
    mutant = found_free(forges[FREE[name]], name)
    assert mutant.sample != mutant.base.sample
    assert EXPLAINED[name].reason


def test_a_freedom_that_is_not_in_the_table_is_a_finding(forges: dict[str, Forge]):
    mutant = found_free(forges["nitro"], "cose.tag")
    other = replace(mutant, change=replace(mutant.change, free="whatever"))
    assert judge(other, Tally()) == "accepted, and claims the same"


LIMITED = ("quote", "log", *(name for _, name in COLLATERAL_LIMITS))


@pytest.mark.parametrize("kind", KINDS)
def test_what_exceeds_its_limit_is_refused_by_that_limit(forges: dict[str, Forge], kind: str):
    chance, seen = random.Random(kind), set()
    for _ in range(200):
        mutant = too_long(chance, chance.choice(forges[kind].bases))
        seen.add(mutant.where.removeprefix("too long "))
        assert beyond_limit(kind, mutant.sample)
        assert judge(mutant, Tally()) == ""
    assert "quote" in seen <= set(LIMITED)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_of_an_input_beyond_its_limit_is_parsed(
    forges: dict[str, Forge], kind: str, monkeypatch: pytest.MonkeyPatch
):
    """With every reader broken the refusal is still the one that names the limit."""
    base = forges[kind].bases[0]
    for place in READ_BY:
        monkeypatch.setattr(place, raising)
    for length in (LIMITS[kind] + 1, 10 * LIMITS[kind]):
        with pytest.raises(MalformedEvidence, match=str(LIMITS[kind])):
            base.judge(replace(base.sample, quote=base.sample.quote.ljust(length, b"\0")))


READ_BY = (
    "strongroom.tee.dcap.quote.Reader.unpack",
    "strongroom.tee.dcap.quote.Reader.take",
    "strongroom.tee.snp.parse._version",
    "strongroom.records.codec.parse_json",
    "strongroom.crypto.cbor._Walker.item",
    "json.loads",
)


def test_nothing_of_a_log_beyond_its_limit_is_parsed(forges: dict[str, Forge], monkeypatch: pytest.MonkeyPatch):
    base = next(base for base in forges["tpm"].bases if base.sample.log)
    monkeypatch.setattr("strongroom.tee.eventlog.tcg2.Reader.take", raising)
    genuine = base.judge(replace(base.sample, log=base.sample.log.ljust(MAX_LOG_BYTES + 1, b"\0")))
    details = {check.id: check.detail for check in genuine.checks}
    assert str(MAX_LOG_BYTES) in details["tpm.log.parse"]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("document", ["tcb_info", "qe_identity"])
def test_a_document_beyond_its_limit_is_not_parsed_though_intel_signed_it(
    forges: dict[str, Forge], hardware: Hardware, document: str, monkeypatch: pytest.MonkeyPatch
):
    base = forges["tdx"].bases[0]
    intel = base.sample.collateral.intel
    assert intel is not None
    text = json.dumps({**json.loads(getattr(intel, document)), "x": "x" * documents.MAX_BYTES})
    signature = sign_raw(hardware.intel.keys["tcb-signing"], text.encode())
    changed = Collateral(intel=replace(intel, **{document: text, f"{document}_signature": signature}))
    base.judge(base.sample)
    real = json.loads
    monkeypatch.setattr(
        json, "loads", lambda data, **how: raising() if len(data) > documents.MAX_BYTES else real(data, **how)
    )
    genuine = base.judge(replace(base.sample, collateral=changed))
    details = {check.id: check.detail for check in genuine.checks}
    assert str(documents.MAX_BYTES) in details[f"tdx.{document}.content"]
    assert not genuine.holds


def test_what_the_paravisor_says_never_stands_for_what_was_measured(forges: dict[str, Forge]):
    """A machine with a paravisor of its own writes what it likes into the claims about the VM."""
    chance, named = random.Random(3), 0
    for _ in range(200):
        mutant = forges["az-snp"].makers["runtime"].make(chance)
        if mutant.where != "runtime named like a claim":
            continue
        named += 1
        genuine = mutant.base.judge(mutant.sample)
        assert genuine.holds
        assert said(genuine) == said(mutant.base.genuine)
    assert named > 20


def test_a_key_that_rsa_does_not_know_is_refused_and_raises_nothing_else(forges: dict[str, Forge]):
    chance, tried = random.Random(4), 0
    for _ in range(200):
        mutant = forges["az-tdx"].makers["key"].make(chance)
        if mutant.where == "ak numbers" and mutant.change.says is None:
            tried += 1
            with pytest.raises((MalformedEvidence, SignatureInvalid)):
                refused(mutant)
    assert tried > 10


def refused(mutant: Mutant) -> None:
    if not mutant.base.judge(mutant.sample).holds:
        raise SignatureInvalid("refused")
