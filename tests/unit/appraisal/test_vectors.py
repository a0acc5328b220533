"""Real evidence of every kind, each with its stated verdict at its stated time, as `strongroom evidence verify` judges it.

`genuine` is the outcome of the built-in policy where a revocation list that does not exist among the vectors is excused by
name; `failed` are the checks that fail then. Without the excuse evidence whose hierarchy has lists is never accepted. No
vector brings a list of AMD's or of a TPM's maker.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from strongroom.appraisal.formats import collateral_of, read
from strongroom.appraisal.gather import read_anchors
from strongroom.appraisal.genuine import CHECKED, GenuineVerdict, appraise_genuine
from strongroom.appraisal.pile import Pile
from strongroom.errors import Unreadable
from strongroom.records.policy import Requirement
from strongroom.records.verdict import Level, Status
from strongroom.tee.anchors import VENDOR_ANCHORS, TrustAnchor

NO_LIST = Requirement(any="no list is among the vectors")
ROOMS = ("tdx", "sgx", "snp", "azure-vtpm", "tpm", "nitro", "cca")


@dataclass(frozen=True)
class Case:
    """One vector: where it lies, what it is judged with and when, what it must come to."""

    file: str
    at: str
    collateral: tuple[str, ...] = ()
    log: str = ""
    anchor: str = ""
    genuine: bool = True
    level: Level = Level.CONFIDENTIAL
    failed: frozenset[str] = frozenset()
    status: str | None = None
    nonce: bytes | None = None
    claims: dict[str, str | int] = field(default_factory=dict)


def refused(file: str, at: str, *failed: str, level: Level = Level.NONE, **more: object) -> Case:
    return Case(file, at, genuine=False, level=level, failed=frozenset(failed), **more)  # type: ignore[arg-type]


def pcs(month: str, *names: str) -> tuple[str, ...]:
    """Intel's documents one by one, as its service gives them."""
    return tuple(f"tdx/pcs{month}_{name}" for name in names)


EMR_MARCH = pcs(
    "2026-03", "tcbinfo_90c06f000000.json", "td_qe_identity.json", "tcb_signing_chain.pem", "root_ca_crl.der", "pck_crl_platform.der",
)  # fmt: skip
EMR_JANUARY = (
    *pcs("2026-01", "tcbinfo_90c06f000000.json", "td_qe_identity.json", "root_ca_crl.der", "pck_crl_platform.hex"),
    "tdx/pcs2026-03_tcb_signing_chain.pem",
)
SPR_MARCH = ("tdx/pcs2026-03_tcbinfo_50806f000000.json", *EMR_MARCH[1:])
GNR_JANUARY = ("tdx/pcs2026-01_tcbinfo_00a06d080000.json", *EMR_JANUARY[1:])
ICX = (
    "sgx/00606a_pcs_tcbinfo_2025-08.json",
    "sgx/pcs_sgx_qeidentity_2025-08.json",
    "tdx/pcs2026-03_tcb_signing_chain.pem",
)
QVL = tuple(
    f"sgx/intelqvl_testroot/{name}"
    for name in (
        "pckCert.pem", "pckSignChain.pem", "tcbInfo.json", "tcbSignChain.pem", "qeIdentity.json",
        "rootCaCrl.der", "intermediateCaCrl.der",
    )
)  # fmt: skip
MILAN, GENOA, TURIN = (f"snp/amd_ask_ark_{product}.pem" for product in ("milan", "genoa", "turin"))

TDX = [
    Case("tdx/v4_b0c06f_uptodate.quote", "2025-07-04", ("tdx/v4_b0c06f_uptodate.collateral.json",), status="UpToDate"),
    refused(
        "tdx/v4_b0c06f_uptodate.quote", "2025-07-20", "tdx.pck.crl", "tdx.tcb_info.fresh", "tdx.qe_identity.fresh",
        collateral=("tdx/v4_b0c06f_uptodate.collateral.json",),
    ),
    Case("tdx/v5_90c06f_uptodate.quote", "2026-03-17", EMR_MARCH, status="UpToDate"),
    Case("tdx/v5_90c06f_uptodate.quote", "2026-02-05", EMR_JANUARY, status="UpToDate"),
    Case("tdx/v5_90c06f_uptodate.quote", "2026-03-01", ("tdx/v5_90c06f_tcb_not_supported.collateral.json",), status="UpToDate"),
    refused(
        "tdx/v5_90c06f_tcb_not_supported.quote", "2026-03-01", "tdx.tcb.platform",
        collateral=("tdx/v5_90c06f_tcb_not_supported.collateral.json",),
    ),
    refused("tdx/v5_90c06f_tcb_not_supported.quote", "2026-02-05", "tdx.tcb.platform", collateral=EMR_JANUARY),
    refused(
        "tdx/v4_50806f_DEBUG.quote", "2023-06-25", "tdx.debug",
        level=Level.CONFIDENTIAL, collateral=("tdx/bundles/50806f_2023-06-25.json",), status="UpToDate",
    ),
    refused(
        "tdx/v4_00a06d_gnr_platform_outofdate_module_uptodate.quote", "2026-02-05", "tdx.tcb",
        level=Level.CONFIDENTIAL, collateral=GNR_JANUARY, status="OutOfDate",
        claims={"tcb_status_platform": "OutOfDate", "tcb_status_module": "UpToDate"},
    ),
    refused(
        "tdx/v5_90c06f_servicetd_outofdate.quote", "2025-06-25", "tdx.service_td",
        level=Level.CONFIDENTIAL, collateral=("tdx/bundles/90c06f_2025-06-25.json",), status="UpToDate",
    ),
    refused(
        "tdx/v5_90c06f_servicetd_outofdate.quote", "2026-02-05", "tdx.service_td", "tdx.tcb",
        level=Level.CONFIDENTIAL, collateral=EMR_JANUARY, status="OutOfDate",
    ),
    Case(
        "tdx/v4_00806f05_gcp_cos113_module_rule.quote", "2025-06-25", ("tdx/bundles/00806f05_2025-06-25.json",),
        log="tdx/v4_00806f05_gcp_cos113.ccel.bin", status="UpToDate",
        claims={"secure_boot": "0"},
    ),
    refused(
        "tdx/v4_00806f05_gcp_cos113_module_rule.quote", "2025-06-25", "tdx.log.replay",
        collateral=("tdx/bundles/00806f05_2025-06-25.json",), log="tdx/ccel/gke_grub.bin", status="UpToDate",
    ),
    Case("tdx/v4_90c06f_dstack_quote_report.json", "2026-02-05", ("tdx/bundles/90c06f_2026-02-05.json",), status="UpToDate"),
    Case("tdx/v4_90c06f_dstack_quote_report.json", "2026-03-17", ("tdx/bundles/90c06f_2026-03-17.json",), status="UpToDate"),
]  # fmt: skip
SGX = [
    refused(
        "sgx/v3_00a067_config_and_swhardening.quote", "2025-07-04", "sgx.tcb",
        level=Level.CONFIDENTIAL, collateral=("sgx/v3_00a067_config_and_swhardening.collateral.json",),
        status="ConfigurationAndSWHardeningNeeded",
    ),
    # no list of the CA that issued this platform's certificate is among the vectors, so more than debug is wrong here
    refused("sgx/v3_00606a_DEBUG_occlum.quote", "2025-08-20", "sgx.root.crl", "sgx.pck.crl", "sgx.debug", collateral=ICX),
    refused("sgx/intelqvl_testroot/quote.dat", "2022-08-20", "sgx.anchor", collateral=QVL),
]  # fmt: skip
SNP = [
    refused(
        "snp/v2_milan_DEBUG.report.bin", "2025-01-01", "snp.debug",
        level=Level.CONFIDENTIAL, collateral=("snp/v2_milan_DEBUG.vcek.der", MILAN),
    ),
    Case("snp/v2_milan.report.hex", "2025-01-01", ("snp/v2_milan.vcek.der", MILAN), claims={"product": "Milan"}),
    Case("snp/v3_genoa.report.bin", "2026-06-01", ("snp/v3_genoa.vcek.pem", GENOA), claims={"product": "Genoa"}),
    Case("snp/v5_turin.report.bin", "2026-06-01", ("snp/v5_turin.vcek.pem", TURIN), claims={"product": "Turin"}),
    Case(
        "snp/v3_milan_vlek_vmpl1.report.bin", "2025-06-01",
        ("snp/v3_milan_vlek_vmpl1.vlek.der", "snp/amd_asvk_ark_milan.pem"), claims={"vmpl": 1, "signing_key": "vlek"},
    ),
    refused(
        "snp/v3_milan_vlek_vmpl1.report.bin", "2025-12-11", "snp.chain",
        collateral=("snp/v3_milan_vlek_vmpl1.vlek.der", "snp/amd_asvk_ark_milan.pem"),
    ),
    Case("snp/v3_milan_dstack.scale.bin", "2026-07-01", ("snp/v3_milan_dstack.vcek.pem", MILAN)),
    Case("snp/v3_milan_dstack_verifier_input.json", "2026-07-01", ("snp/v3_milan_dstack.vcek.pem", MILAN)),
    refused("snp/v2_milan.report.hex", "2025-01-01", "snp.anchor", collateral=("snp/NEG_vcek_wrong_chip_legacy.der", MILAN)),
    refused("snp/v2_milan.report.hex", "2025-01-01", "snp.anchor", collateral=("snp/NEG_vcek_wrong_chip_new.der", MILAN)),
]  # fmt: skip
AZURE = [
    Case("azure-vtpm/snp_milan_evidence_v1.json", "2025-06-01", (MILAN,), claims={"secure_boot": "1", "ak_source": "paravisor"}),
    Case("azure-vtpm/snp_milan_evidence_v2.json", "2025-06-01", (MILAN,), claims={"secure_boot": "1"}),
    refused(
        "azure-vtpm/tdx_evidence_v1.json", "2025-06-25", "tdx.tcb",
        level=Level.CONFIDENTIAL, collateral=("tdx/bundles/00806f05_2025-06-25.json",), status="OutOfDate",
    ),
]  # fmt: skip
NITRO = [
    Case("nitro/prod_2025-12-25.nsm.bin", "2025-12-25T13:15:37"),
    refused("nitro/prod_2025-12-25.nsm.bin", "2026-11-01", "nitro.chain"),
    refused("nitro/DEBUG_2025-12-25.scale.bin", "2025-12-25T09:00:00", "nitro.debug", level=Level.CONFIDENTIAL),
    Case("nitro/prod_2022-10-13_pcr8_nonce.cose", "2022-10-13T08:58:10"),
]
CCA = [
    Case(
        "cca/example_token.cbor", "2026-01-01", ("cca/example_cpak_pub.jwk",),
        anchor="cca/example_cpak_pub.jwk", level=Level.SIMULATED, claims={"lifecycle": 12291},
    ),
    refused("cca/example_token.cbor", "2026-01-01", "cca.anchor", collateral=("cca/example_cpak_pub.jwk",)),
    refused("cca/veraison_evidence.cbor", "2026-01-01", "cca.collateral"),
    refused("cca/veraison_evidence.cbor", "2026-01-01", "cca.collateral", collateral=("cca/example_tastore.json",)),
    refused(
        "cca/veraison_evidence.cbor", "2026-01-01", "cca.platform.signature",
        collateral=("cca/example_cpak_pub.jwk",), anchor="cca/example_cpak_pub.jwk",
    ),
]  # fmt: skip
CASES = [*TDX, *SGX, *SNP, *AZURE, *NITRO, *CCA]
SUPPORTING = {
    "tdx": ("pcs", "_pcs_tcbinfo_", "bundles/", ".collateral.json", ".ccel", ".nonce.bin", "ccel/"),
    "sgx": ("_pcs_tcbinfo_", "pcs_sgx", ".collateral.json", "intelqvl_testroot/"),
    "snp": ("vcek", "vlek", "amd_"),
    "azure-vtpm": (),
    "nitro": (".pem",),
    "cca": ("jwk", "store.json"),
}
"""Parts of names of files that are no evidence but stand beside some. TPM evidence has its table beside its own tests."""
TRAILING_WORDS = "tdx/v4_50806f_spr_e4_tcb_not_supported.quote"


def moment(text: str) -> int:
    found = datetime.fromisoformat(text if "T" in text else f"{text}T12:00:00")
    return int(found.replace(tzinfo=UTC).timestamp())


def judge(vectors: Path, case: Case, revocation: Requirement = NO_LIST) -> GenuineVerdict:
    pile = Pile(now=moment(case.at))
    for name in case.collateral:
        pile.add((vectors / name).read_bytes())
    anchors: tuple[TrustAnchor, ...] = VENDOR_ANCHORS
    if case.anchor:
        anchors += read_anchors((vectors / case.anchor).read_bytes())
    found = read((vectors / case.file).read_bytes())
    return appraise_genuine(
        found.kind,
        found.quote,
        (vectors / case.log).read_bytes() if case.log else found.log,
        collateral=collateral_of(found, pile),
        anchors=anchors,
        report_data=case.nonce,
        now=moment(case.at),
        revocation=revocation,
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.file} {case.at}")
def test_a_vector_gets_its_expected_verdict(vectors: Path, case: Case):
    got = judge(vectors, case)
    failing = {check.id for check in got.verdict.checks if check.status is Status.FAIL}
    assert (got.genuine, failing, got.verdict.level) == (case.genuine, case.failed, case.level), case.file
    said = got.verdict.claims
    assert {name: said.get(name) for name in case.claims} == case.claims
    if case.status is not None:
        assert case.status in {said.get("tcb_status_platform"), said.get("tcb_status"), *said.values()}


@pytest.mark.parametrize("case", [c for c in (*SNP, *AZURE[:2]) if c.genuine], ids=lambda case: case.file)
def test_without_amds_list_nothing_is_accepted_unless_somebody_says_so(vectors: Path, case: Case):
    got = judge(vectors, case, CHECKED)
    assert not got.genuine
    assert [c.id for c in got.verdict.checks if c.status is Status.NOT_RUN and c.id.endswith(".crl")] == ["snp.crl"]


@pytest.mark.parametrize("room", SUPPORTING)
def test_every_file_is_judged_or_stands_beside_evidence(vectors: Path, room: str):
    judged = {case.file for case in CASES} | {TRAILING_WORDS}
    for path in sorted((vectors / room).rglob("*")):
        name = path.relative_to(vectors).as_posix()
        beside = any(part in name.removeprefix(f"{room}/") for part in SUPPORTING[room])
        assert path.is_dir() or name in judged or beside, f"nobody looks at {name}"


def test_a_quote_with_words_behind_it_is_unreadable_and_without_them_has_no_tcb_level(vectors: Path, tmp_path: Path):
    data = (vectors / TRAILING_WORDS).read_bytes()
    with pytest.raises(Unreadable, match="after its quote"):
        read(data)
    (tmp_path / "quote").write_bytes(data.removesuffix(b"\nextra bytes(only for testing purpose)\n"))
    for bundle, at in (("50806f_2023-06-25", "2023-06-25"), ("50806f_2026-03-17", "2026-03-17")):
        case = refused(str(tmp_path / "quote"), at, collateral=(f"tdx/bundles/{bundle}.json",))
        got = judge(vectors, case)
        failing = {check.id for check in got.verdict.checks if check.status is Status.FAIL}
        assert failing == {"tdx.tcb.platform", "tdx.sept_ve_disable"}


def test_intels_documents_one_by_one_are_as_good_as_a_bundle(vectors: Path):
    from strongroom.appraisal.gather import gather_intel
    from strongroom.tee.tdx import parse_quote

    pile, bundle = Pile(), Pile()
    for name in EMR_MARCH:
        pile.add((vectors / name).read_bytes())
    bundle.add((vectors / "tdx/bundles/90c06f_2026-03-17.json").read_bytes())
    chain = parse_quote((vectors / "tdx/v5_90c06f_uptodate.quote").read_bytes()).pck_chain
    one, other = gather_intel(pile, chain, "TDX"), gather_intel(bundle, chain, "TDX")
    assert one is not None
    assert other is not None
    for name in ("tcb_info", "tcb_info_signature", "qe_identity", "qe_identity_signature", "root_ca_crl", "pck_crl"):
        assert getattr(one, name) == getattr(other, name), name
    assert json.loads(one.tcb_info)["id"] == "TDX"
