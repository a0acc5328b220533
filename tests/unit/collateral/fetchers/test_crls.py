import pytest
from vendors import Reply, Service

from strongroom.collateral.fetchers.crls import NITRO_ROOT_HOST, CrlFetcher, nitro_hosts
from strongroom.collateral.items import PlacedCrl
from strongroom.errors import MalformedEvidence, ServiceUnavailable, UsageError


def test_a_crl_comes_from_the_place_that_the_configuration_names(serve, hurry, snp):
    crl = snp.crl(1_790_000_000)
    service = Service({"/crl/abc.crl": Reply(crl)})
    fetcher = CrlFetcher({"region": serve(service) + "/crl/abc.crl"}, hosts=["127.0.0.1"], http=hurry.http())
    item = PlacedCrl("nitro", "region", "the evidence's chain")
    assert fetcher.serves(item)
    part = fetcher.fetch(item)
    assert (part.body, part.chain) == (crl, "the evidence's chain")
    assert service.seen == ["/crl/abc.crl"]


def test_hosts_that_are_not_allowed_are_refused_and_an_empty_list_allows_none():
    for hosts in ([], ["other.example"], ["example.org.evil.example"]):
        with pytest.raises(UsageError, match="not allowed"):
            CrlFetcher({"a": "http://example.org/a.crl"}, hosts=hosts)
    with pytest.raises(UsageError):
        CrlFetcher({"a": "http://example.org@evil.example/a.crl"}, hosts=["example.org"])


def test_a_place_that_is_not_configured_is_not_served():
    fetcher = CrlFetcher({}, hosts=[])
    item = PlacedCrl("tpm", "http://127.0.0.1:1/x.crl", "")
    assert not fetcher.serves(item)
    with pytest.raises(UsageError):
        fetcher.fetch(item)


def test_the_hosts_of_aws_are_known_by_region():
    assert nitro_hosts(["us-east-1"]) == (
        NITRO_ROOT_HOST,
        "crl-us-east-1-aws-nitro-enclaves.s3.us-east-1.amazonaws.com",
    )


def test_a_body_that_is_no_crl_is_refused(serve, hurry):
    service = Service({"/a": Reply(b"<Error>AccessDenied</Error>"), "/b": Reply(b"x", 403)})
    url = serve(service)
    fetcher = CrlFetcher({"a": url + "/a", "b": url + "/b"}, hosts=["127.0.0.1"], http=hurry.http())
    with pytest.raises(MalformedEvidence):
        fetcher.fetch(PlacedCrl("tpm", "a", ""))
    with pytest.raises(ServiceUnavailable):
        fetcher.fetch(PlacedCrl("tpm", "b", ""))
