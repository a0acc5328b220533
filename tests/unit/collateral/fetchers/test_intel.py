import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vendors import CRL, FMSPC, JSON, Reply, document, intel, numbers

from strongroom.collateral.fetchers.intel import PCS, PCS_ROOT_CRL, IntelFetcher, cut_signed, der_of
from strongroom.collateral.http import Answer
from strongroom.collateral.items import AmdChain, EvaluationNumbers, PckCrl, QeIdentity, RootCrl, TcbInfo
from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, ServiceUnavailable, UsageError
from strongroom.tee.dcap import signatures
from strongroom_sim import Chip

NOW = 1_790_000_000
TCB = f"/tdx/certification/v4/tcb?fmspc={FMSPC}&update=standard"
SIGNATURE = "ab" * 64


def test_all_parts_of_a_pccs_are_what_intel_signed(serve, intel_at, pcs, intel_needs, collateral):
    fetcher = intel_at(serve(pcs))
    parts = {item: fetcher.fetch(item) for item in intel_needs.items}
    chain = collateral.pck_crl_chain  # the source puts it beside the root's CRL
    root = intel_needs.items[3]
    parts[root] = replace(parts[root], chain=chain)
    assert intel_needs.assemble(parts.__getitem__).intel == collateral


def test_what_was_fetched_verifies_a_quote(serve, intel_at, pcs, intel_needs, installation, anchors):
    from strongroom.tee.tdx import parse_quote, verify

    fetcher = intel_at(serve(pcs))
    fetched = intel_needs.assemble(fetcher.fetch).intel
    quote = Chip(installation, mrtd=bytes(48)).quote(bytes(64))
    assert verify(parse_quote(quote), fetched, anchors, NOW).holds


def test_tracks_and_kinds_ask_where_they_should(serve, intel_at, pcs, installation, collateral):
    pcs.answers.update(intel(collateral, track="update=early"))
    pcs.answers.update(intel(collateral, track="tcbEvaluationDataNumber=17"))
    pcs.answers.update(intel(collateral, kind="sgx", ca="processor"))
    pcs.answers.update(numbers(installation, NOW, (17, 18)))
    fetcher, fmspc = intel_at(serve(pcs)), bytes.fromhex(FMSPC)
    for item in (
        TcbInfo("tdx", fmspc, "early"), QeIdentity("tdx", "17"), TcbInfo("sgx", fmspc, "standard"), PckCrl("processor"),
        EvaluationNumbers("tdx"), RootCrl("platform"),
    ):  # fmt: skip
        assert fetcher.serves(item)
        assert fetcher.fetch(item).body
    assert pcs.seen == [
        f"/tdx/certification/v4/tcb?fmspc={FMSPC}&update=early",
        "/tdx/certification/v4/qe/identity?tcbEvaluationDataNumber=17",
        f"/sgx/certification/v4/tcb?fmspc={FMSPC}&update=standard",
        "/sgx/certification/v4/pckcrl?ca=processor&encoding=der",
        "/tdx/certification/v4/tcbevaluationdatanumbers",
        "/sgx/certification/v4/rootcacrl",
    ]


def test_the_roots_crl_of_pcs_is_elsewhere_and_can_be_named():
    class Listening:
        def get(self, url, **_):
            raise ServiceUnavailable(url)

    for arguments, place in (
        ({}, PCS_ROOT_CRL),
        ({"url": PCS + "/"}, PCS_ROOT_CRL),
        ({"url": "https://pccs.example:8081"}, "https://pccs.example:8081/sgx/certification/v4/rootcacrl"),
        ({"root_crl_url": "https://mirror.example/root.der"}, "https://mirror.example/root.der"),
    ):
        with pytest.raises(ServiceUnavailable) as raised:
            IntelFetcher(**arguments, http=Listening()).fetch(RootCrl("platform"))
        assert raised.value.message == place


def test_what_is_anothers_is_not_served(intel_at):
    fetcher = intel_at("http://127.0.0.1:1")
    assert not fetcher.serves(AmdChain("Milan", "vcek"))
    with pytest.raises(UsageError):
        fetcher.fetch(AmdChain("Milan", "vcek"))


# --- documents --------------------------------------------------------------------------------------------------------

spaces = st.text(" \t\r\n", max_size=3)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"}{\\', max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["id", "a", "signature", "tcbInfo"]), values, max_size=4), st.booleans(),
    st.lists(spaces, min_size=10, max_size=10), st.booleans(),
)  # fmt: skip
def test_the_signed_text_is_cut_out_exactly(content, last, gaps, ascii_only):
    text = json.dumps(content, ensure_ascii=ascii_only, indent=1 if last else None)
    pair = [f'"tcbInfo"{gaps[1]}:{gaps[2]}{text}{gaps[3]}', f'"signature"{gaps[4]}:{gaps[5]}"{SIGNATURE}"{gaps[6]}']
    body = f"{gaps[0]}{{{gaps[7]}" + f",{gaps[8]}".join(reversed(pair) if last else pair) + f"}}{gaps[9]}"
    assert cut_signed(body.encode(), "tcbInfo") == (text, bytes.fromhex(SIGNATURE))


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_anything_else_is_refused_by_one_error(data):
    with pytest.raises(MalformedEvidence):
        cut_signed(data, "tcbInfo")


@pytest.mark.parametrize(
    "body",
    [
        "", "[]", "null", '{"tcbInfo":{}}', f'{{"signature":"{SIGNATURE}"}}', f'{{"tcbInfo":{{}},"signature":"{SIGNATURE}"',
        f'{{"tcbInfo":[],"signature":"{SIGNATURE}"}}', f'{{"tcbInfo":"{{}}","signature":"{SIGNATURE}"}}',
        f'{{"tcbInfo":{{}},"signature":"{SIGNATURE}","more":1}}', f'{{"tcbInfo":{{}},"signature":"{SIGNATURE[2:]}"}}',
        f'{{"tcbInfo":{{}},"tcbInfo":{{}},"signature":"{SIGNATURE}"}}', '{"tcbInfo":{},"signature":12}',
        f'{{"tcbInfo":{{"a":1,"a":2}},"signature":"{SIGNATURE}"}}', f'{{"tcbInfo":{{"a":1.5}},"signature":"{SIGNATURE}"}}',
        f'{{"tcbInfo":{"[" * 5000},"signature":"{SIGNATURE}"}}', f'{{"tcbInfo":{{}},"signature":"{SIGNATURE}"}} x',
        f'{{"tcbinfo":{{}},"signature":"{SIGNATURE}"}}', f'{{"tcbInfo":{{}},"signature":"{"gg" * 64}"}}',
    ],
)  # fmt: skip
def test_a_body_of_another_shape_is_refused(body):
    with pytest.raises(MalformedEvidence):
        cut_signed(body.encode(), "tcbInfo")


def test_the_real_documents_of_pcs_are_cut_so_that_their_signatures_hold(vectors):
    signer = x509.load_chain((vectors / "tdx/pcs2026-03_tcb_signing_chain.pem").read_bytes())[0]
    judged = []
    for path in sorted(vectors.glob("*/*pcs*.json")):
        for member in ("tcbInfo", "enclaveIdentity"):
            if f'"{member}"' in path.read_text()[:40]:
                text, signature = cut_signed(path.read_bytes(), member)
                assert signatures.check(x509.public_key(signer), signature, text.encode(), path.name)
                judged.append(path.name)
    assert len(judged) == 17


# --- services that misbehave ------------------------------------------------------------------------------------------


def test_a_missing_issuer_chain_is_refused(serve, intel_at, pcs, intel_needs):
    for target in list(pcs.answers):
        kept = {n: v for n, v in pcs.answers[target].headers.items() if not n.endswith("Chain")}
        pcs.answers[target] = replace(pcs.answers[target], headers=kept)
    fetcher = intel_at(serve(pcs))
    for item in intel_needs.items[:3]:
        with pytest.raises(MalformedEvidence, match="lacks the header"):
            fetcher.fetch(item)


@pytest.mark.parametrize("chain", ["", "rain", "-----BEGIN%20CERTIFICATE-----%0A", "%ff%fe", "%00", "A" * 20_000])
def test_a_chain_that_is_no_pem_is_refused(serve, intel_at, pcs, intel_needs, chain):
    pcs.answers[TCB] = replace(pcs.answers[TCB], headers={"content-type": JSON, "TCB-Info-Issuer-Chain": chain})
    with pytest.raises(MalformedEvidence):
        intel_at(serve(pcs)).fetch(intel_needs.items[0])


def test_a_chain_may_end_its_lines_with_crlf(serve, intel_at, pcs, intel_needs, collateral):
    header = pcs.answers[TCB].headers["TCB-Info-Issuer-Chain"].replace("%0A", "%0D%0A")
    pcs.answers[TCB] = replace(pcs.answers[TCB], headers={"content-type": JSON, "TCB-Info-Issuer-Chain": header})
    assert intel_at(serve(pcs)).fetch(intel_needs.items[0]).chain == collateral.tcb_info_chain


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_document_cut_short_is_refused(serve, intel_at, pcs, intel_needs, keep):
    pcs.answers[TCB] = replace(pcs.answers[TCB], body=pcs.answers[TCB].body[:keep])
    with pytest.raises(MalformedEvidence):
        intel_at(serve(pcs)).fetch(intel_needs.items[0])


@pytest.mark.parametrize("body", [b"", b"rain", b"30", b"zz", b"<html>", bytes(100)])
def test_a_crl_that_does_not_parse_is_refused(serve, intel_at, pcs, body):
    pcs.answers["/sgx/certification/v4/rootcacrl"] = Reply(body, 200, {"content-type": CRL})
    with pytest.raises(MalformedEvidence):
        intel_at(serve(pcs)).fetch(RootCrl("platform"))


def test_a_crl_is_read_as_der_and_as_hexadecimal(collateral, vectors):
    for der in (collateral.root_ca_crl, (vectors / "tdx/pcs2026-03_pck_crl_platform.der").read_bytes()):
        assert der_of(der) == der_of(der.hex().encode()) == der_of(der.hex().upper().encode() + b"\n") == der


def test_a_document_of_another_member_is_refused(serve, intel_at, pcs, intel_needs, collateral):
    swapped = document("enclaveIdentity", collateral.qe_identity, collateral.qe_identity_signature)
    pcs.answers[TCB] = replace(pcs.answers[TCB], body=swapped)
    with pytest.raises(MalformedEvidence, match="tcbInfo"):
        intel_at(serve(pcs)).fetch(intel_needs.items[0])


def test_an_answer_without_headers_is_refused():
    import httpx2

    from strongroom.collateral.fetchers.intel import issuer_chain

    with pytest.raises(MalformedEvidence):
        issuer_chain(Answer(httpx2.Headers(), b""), "TCB-Info-Issuer-Chain")
