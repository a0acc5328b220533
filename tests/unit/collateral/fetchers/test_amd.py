import pytest
from vendors import Reply

from strongroom.collateral.items import AmdChain, AmdCrl, AmdLeaf, RootCrl
from strongroom.collateral.needs import AmdNeeds
from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, ServiceUnavailable, UsageError


def test_chain_crl_and_vcek_are_what_amd_signed(serve, amd_at, kds, amd_needs, parts):
    fetcher = amd_at(serve(kds))
    chain, crl, leaf = amd_needs.items
    assert all(fetcher.serves(item) for item in amd_needs.items)
    assert fetcher.fetch(chain) == parts[chain]
    assert x509.load_crl(fetcher.fetch(crl).body).issuer == x509.load_chain(parts[chain].chain)[1].subject
    assert fetcher.fetch(leaf).body == parts[leaf].body


def test_a_vcek_is_asked_for_by_chip_and_tcb_as_each_product_lays_it_out(serve, amd_at, kds):
    fetcher = amd_at(serve(kds))
    tcb = bytes([1, 2, 3, 4, 0, 0, 7, 8])
    for product, target in {
        "Milan": f"{'ab' * 64}?blSPL=1&teeSPL=2&snpSPL=7&ucodeSPL=8",
        "Genoa": f"{'ab' * 64}?blSPL=1&teeSPL=2&snpSPL=7&ucodeSPL=8",
        "Turin": f"{'ab' * 8}?fmcSPL=1&blSPL=2&teeSPL=3&snpSPL=4&ucodeSPL=8",
    }.items():
        (leaf,) = (i for i in AmdNeeds(product, bytes([0xAB] * 64), tcb).items if isinstance(i, AmdLeaf))
        with pytest.raises(ServiceUnavailable, match="404"):
            fetcher.fetch(leaf)
        assert kds.seen[-1] == f"/vcek/v1/{product}/{target}"


def test_vleks_have_their_own_chain_and_list(serve, amd_at, kds, snp):
    fetcher = amd_at(serve(kds))
    assert fetcher.fetch(AmdChain("Milan", "vlek")).chain == snp.chain("asvk")
    fetcher.fetch(AmdCrl("Milan", "vlek"))
    assert kds.seen == ["/vlek/v1/Milan/cert_chain", "/vlek/v1/Milan/crl"]


def test_the_rate_limit_of_kds_is_respected(serve, hurry, kds, amd_needs):
    from strongroom.collateral.fetchers.amd import PATIENT, AmdFetcher
    from strongroom.collateral.http import Http

    leaf = amd_needs.items[2]
    target = next(t for t in kds.answers if "blSPL" in t)
    good = kds.answers[target]
    kds.answers[target] = lambda times: good if times == 5 else Reply(status=429)
    fetcher = AmdFetcher(serve(kds), http=Http(backoff=PATIENT, sleep=hurry.waits.append))
    assert fetcher.fetch(leaf).body == good.body
    assert len(hurry.waits) == 5
    assert 30 <= sum(hurry.waits) <= 62


@pytest.mark.parametrize(
    "body", [b"", b"rain", b"\xff", b"-----BEGIN CERTIFICATE-----\n", b"<html>429</html>", b"0" * 20_000]
)
def test_what_is_no_certificate_is_refused(serve, amd_at, kds, amd_needs, body):
    kds.answers = dict.fromkeys(kds.answers, Reply(body))
    fetcher = amd_at(serve(kds))
    for item in amd_needs.items:
        with pytest.raises(MalformedEvidence):
            fetcher.fetch(item)


def test_a_chain_of_another_length_is_refused(serve, amd_at, kds, snp):
    item = AmdChain("Milan", "vcek")
    for chain in (snp.root_pem, snp.chain("ask").encode() + snp.root_pem):
        kds.answers["/vcek/v1/Milan/cert_chain"] = Reply(chain)
        with pytest.raises(MalformedEvidence):
            amd_at(serve(kds)).fetch(item)


def test_what_is_anothers_is_not_served(amd_at):
    fetcher = amd_at("http://127.0.0.1:1")
    assert not fetcher.serves(RootCrl("platform"))
    with pytest.raises(UsageError):
        fetcher.fetch(RootCrl("platform"))
