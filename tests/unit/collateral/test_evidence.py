from dataclasses import replace
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.collateral import AmdNeeds, Choice, CrlNeeds, IntelNeeds, needs_of
from strongroom.collateral.evidence import of_pck_chain, of_report
from strongroom.collateral.items import AmdChain, AmdCrl, AmdLeaf, Part, PckCrl, PlacedCrl, QeIdentity, RootCrl, TcbInfo
from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, UsageError
from strongroom.tee.nitro import unwrap
from strongroom.tee.snp import parse_report
from strongroom_sim import Chip
from strongroom_sim.snp import SnpChip

NOW = 1_790_000_000


def test_a_quote_says_family_and_ca(installation, vectors):
    quote = Chip(installation, mrtd=bytes(48)).quote(bytes(64))
    needs = needs_of("tdx", quote)
    assert needs == IntelNeeds("tdx", b"sim\0\0\0", "platform")
    assert needs.items == (
        TcbInfo("tdx", b"sim\0\0\0", "standard"), QeIdentity("tdx", "standard"), PckCrl("platform"), RootCrl("platform")
    )  # fmt: skip
    early = needs_of("tdx", quote, choice=Choice(update="early"))
    assert early.items[0].track == early.items[1].track == "early"
    assert needs_of("tdx", quote, choice=Choice(evaluation=18)).items[0].track == "18"
    real = needs_of("sgx", (vectors / "sgx/v3_00a067_config_and_swhardening.quote").read_bytes())
    assert real == IntelNeeds("sgx", bytes.fromhex("00a067110000"), "processor")


def test_a_report_says_product_chip_and_tcb(chip, vectors):
    report = parse_report(chip.quote(bytes(64)))
    needs = needs_of("snp", chip.quote(bytes(64)))
    assert needs == AmdNeeds("Milan", report.chip_id, report.reported_tcb)
    assert needs.items == (
        AmdChain("Milan", "vcek"), AmdCrl("Milan", "vcek"), AmdLeaf("Milan", report.chip_id, report.reported_tcb)
    )  # fmt: skip
    turin = needs_of("snp", (vectors / "snp/v5_turin.report.bin").read_bytes())
    assert turin.product == "Turin"
    assert len(turin.items[2].hwid) == 8
    genoa = needs_of("snp", (vectors / "snp/v3_genoa.report.bin").read_bytes())
    assert (genoa.product, len(genoa.items[2].hwid)) == ("Genoa", 64)


def test_a_certificate_that_came_along_is_not_asked_for(snp, vectors):
    chip = SnpChip(snp, measurement=bytes(48), now=NOW, vlek=True)
    leaf = chip.collateral(NOW).leaf
    needs = needs_of("snp", chip.quote(bytes(64)), leaves=[snp.certificates["ask"].public_bytes(Encoding.DER), leaf])
    assert (needs.signer, needs.leaf) == ("vlek", leaf)
    assert needs.items == (AmdChain("Milan", "vlek"), AmdCrl("Milan", "vlek"))
    old, vcek = ((vectors / f"snp/v2_milan{end}").read_bytes() for end in (".report.hex", ".vcek.der"))
    assert needs_of("snp", bytes.fromhex(old.decode()), leaves=[vcek]).product == "Milan"


def test_what_a_report_hides_cannot_be_asked_for(snp, vectors):
    vlek = SnpChip(snp, measurement=bytes(48), now=NOW, vlek=True)
    with pytest.raises(UsageError, match="VLEK"):
        needs_of("snp", vlek.quote(bytes(64)))
    masked = SnpChip(snp, measurement=bytes(48), now=NOW, chip_id=bytes(64))
    with pytest.raises(UsageError, match="CHIP_ID"):
        needs_of("snp", masked.quote(bytes(64)))
    old = bytes.fromhex((vectors / "snp/v2_milan.report.hex").read_text())
    with pytest.raises(UsageError, match="do not name their product"):
        needs_of("snp", old)
    report = parse_report(SnpChip(snp, measurement=bytes(48), now=NOW).quote(bytes(64)))
    with pytest.raises(MalformedEvidence, match="unknown product"):
        of_report(replace(report, cpuid=(0x99, 1, 1)))


def test_a_nitro_document_needs_places_that_somebody_names(vectors):
    document = unwrap((vectors / "nitro/prod_2025-12-25.nsm.bin").read_bytes())
    with pytest.raises(UsageError, match="not where they are fetched"):
        needs_of("nitro", document)
    needs = needs_of("nitro", document, choice=Choice(places=("root", "region")))
    assert [item.place for item in needs.items] == ["root", "region"]
    chain = x509.load_chain(needs.items[0].chain)
    assert x509.common_name(chain[-1]) == "aws.nitro-enclaves"
    assert all(low.issuer == high.subject for low, high in pairwise(chain))


def test_a_chain_that_is_not_intels_says_nothing(installation):
    chain = installation.pck_chain.decode()
    for bad in ("", "rain", installation.root_pem.decode()):
        with pytest.raises(MalformedEvidence):
            of_pck_chain("tdx", bad, Choice())
    swapped = "".join(c.public_bytes(Encoding.PEM).decode() for c in reversed(x509.load_chain(chain)))
    with pytest.raises(MalformedEvidence, match="no CA of Intel"):
        of_pck_chain("tdx", swapped, Choice())


@pytest.mark.parametrize("kind", ["tpm", "cca", "nvidia", ""])
def test_kinds_of_which_nothing_is_fetched_are_said(kind):
    with pytest.raises(UsageError):
        needs_of(kind, b"")


@pytest.mark.parametrize("kind", ["tdx", "sgx", "snp", "nitro"])
def test_what_is_no_evidence_is_refused(kind):
    for data in (b"", b"rain", bytes(5000)):
        with pytest.raises((MalformedEvidence, UsageError)):
            needs_of(kind, data, choice=Choice(places=("a",)))


@pytest.mark.parametrize(
    "make",
    [
        lambda: IntelNeeds("tdx", b"short", "platform"),
        lambda: IntelNeeds("tdx", bytes(6), "root"),
        lambda: IntelNeeds("snp", bytes(6), "platform"),
        lambda: IntelNeeds("tdx", bytes(6), "platform", "late"),
        lambda: IntelNeeds("tdx", bytes(6), "platform", "early", 18),
        lambda: IntelNeeds("tdx", bytes(6), "platform", evaluation=0),
        lambda: AmdNeeds("Rome", bytes([1] * 64), bytes(8)),
        lambda: AmdNeeds("Milan", bytes([1] * 8), bytes(8)),
        lambda: AmdNeeds("Milan", bytes([1] * 64), bytes(4)),
        lambda: AmdNeeds("Milan", bytes(64), bytes(8)),
        lambda: AmdNeeds("Milan", bytes([1] * 64), bytes(8), "vlek"),
        lambda: AmdNeeds("Milan", bytes([1] * 64), bytes(8), "ark"),
        lambda: CrlNeeds("nitro", "", ()),
        lambda: CrlNeeds("tdx", "", ("a",)),
    ],
)
def test_needs_without_meaning_are_refused(make):
    with pytest.raises(UsageError):
        make()


def test_crls_are_put_where_each_kind_has_them():
    for kind, member in (("nitro", "aws"), ("tpm", "tpm")):
        needs = CrlNeeds(kind, "chain", ("a", "b"))
        assert needs.items == (PlacedCrl(kind, "a", "chain"), PlacedCrl(kind, "b", "chain"))
        found = needs.assemble(lambda item: Part(item.place.encode(), b"", item.chain))
        assert getattr(found, member).crls == (b"a", b"b")
