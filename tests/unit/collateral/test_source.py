import json
import threading
import time
from dataclasses import replace

import pytest
from vendors import Reply, Service, intel, numbers, renumbered

from strongroom.collateral import Cache, Checks, CollateralSource, IntelNeeds, needs_of
from strongroom.collateral.fetchers import AmdFetcher, IntelFetcher
from strongroom.collateral.source import MAX_AGE, RETRY_AFTER
from strongroom.errors import (
    CollateralStale,
    MalformedEvidence,
    ServiceUnavailable,
    SignatureInvalid,
    StrongroomError,
    Unavailable,
    UsageError,
)
from strongroom.records.evidence import Collateral, IntelCollateral
from strongroom.tee import tdx
from strongroom.tee.anchors import VENDOR_ANCHORS

NOW = 1_790_000_000
DAY = 86_400


@pytest.fixture
def late():
    return []


@pytest.fixture
def source(cache, serve, intel_at, amd_at, pcs, kds, late):
    fetchers = [intel_at(serve(pcs)), amd_at(serve(kds))]
    return CollateralSource(cache, fetchers, report=lambda item, error: late.append((item.name, error.code)))


def test_collateral_is_fetched_once_and_then_kept(source, pcs, kds, intel_needs, amd_needs, collateral, parts):
    for _ in range(3):
        assert source.collateral(intel_needs, now=NOW).intel == collateral
        amd = source.collateral(amd_needs, now=NOW).amd
    assert (amd.leaf, amd.chain) == (parts[amd_needs.items[2]].body, parts[amd_needs.items[0]].chain)
    assert (len(pcs.seen), len(kds.seen)) == (4, 3)


def test_two_vendors_parts_come_in_one_record(source, intel_needs, amd_needs):
    both = source.gather(intel_needs, amd_needs, now=NOW)
    assert both.collateral.intel is not None
    assert both.collateral.amd is not None
    assert both.collateral.digest == source.collateral(intel_needs, amd_needs, now=NOW).digest
    assert both.until == NOW + 30 * DAY
    assert len(both.parts) == 7


def test_two_needs_of_one_vendor_or_none_have_no_meaning(source, intel_needs):
    with pytest.raises(UsageError):
        source.collateral(intel_needs, replace(intel_needs, ca="platform"), now=NOW)
    with pytest.raises(UsageError):
        source.collateral(now=NOW)


def test_a_worker_takes_it_as_a_function_without_arguments(source, intel_needs, collateral):
    supply = source.supplier(intel_needs, clock=lambda: NOW + 0.9)
    assert supply() == Collateral(intel=collateral)


def test_evaluation_numbers_are_verified_and_kept(source, pcs, installation):
    pcs.answers.update(numbers(installation, NOW, (17, 18)))
    assert [one.number for one in source.evaluation_numbers("tdx", now=NOW)] == [18, 17]
    assert [one.number for one in source.evaluation_numbers("tdx", now=NOW)] == [18, 17]
    assert len(pcs.seen) == 1


# --- renewal ----------------------------------------------------------------------------------------------------------


def renew(installation, pcs, now, number=1):
    pcs.answers.update(intel(renumbered(installation, installation.collateral(now), number)))


def test_what_is_older_than_a_day_is_asked_for_again_and_what_lasts_is_not(
    source, pcs, kds, installation, intel_needs, amd_needs
):
    source.collateral(intel_needs, amd_needs, now=NOW)
    renew(installation, pcs, NOW + DAY, number=2)
    source.collateral(intel_needs, amd_needs, now=NOW + MAX_AGE - 1)
    assert (len(pcs.seen), len(kds.seen)) == (4, 3)
    found = source.collateral(intel_needs, amd_needs, now=NOW + MAX_AGE)
    assert json.loads(found.intel.tcb_info)["tcbEvaluationDataNumber"] == 2
    assert len(pcs.seen) == 8
    assert kds.seen[3:] == ["/vcek/v1/Milan/crl"]


def test_an_outage_is_bridged_while_what_is_kept_holds_and_not_a_second_longer(
    source, pcs, intel_needs, collateral, late, hurry
):
    source.collateral(intel_needs, now=NOW)
    pcs.answers = {}
    end = NOW + 30 * DAY
    for now in (NOW + 2 * DAY, NOW + 20 * DAY, end):
        assert source.collateral(intel_needs, now=now).intel == collateral
    assert {code for _, code in late} == {"service.unavailable"}
    assert len(late) == 12
    with pytest.raises(ServiceUnavailable):
        source.collateral(intel_needs, now=end + 1)
    assert hurry.waits == []


def test_after_a_failure_nobody_is_asked_for_a_while(source, pcs, intel_needs, late):
    source.collateral(intel_needs, now=NOW)
    pcs.answers = {}
    later = NOW + 2 * DAY
    for shift in (0, 1, RETRY_AFTER - 1):
        source.collateral(intel_needs, now=later + shift)
    assert (len(pcs.seen), len(late)) == (8, 4)
    source.collateral(intel_needs, now=later + RETRY_AFTER)
    assert len(pcs.seen) == 12


def test_known_failure_an_older_answer_never_takes_the_place_of_a_newer(source, pcs, installation, intel_needs, late):
    """Stale collateral and rollback, through a mirror that turned back."""
    renew(installation, pcs, NOW, number=18)
    source.collateral(intel_needs, now=NOW)
    renew(installation, pcs, NOW + 2 * DAY, number=17)
    found = source.collateral(intel_needs, now=NOW + 2 * DAY).intel
    assert json.loads(found.tcb_info)["tcbEvaluationDataNumber"] == 18
    assert ("intel/tdx/tcb/73696d000000/standard", "collateral.stale") in late
    with pytest.raises(CollateralStale):
        source.collateral(intel_needs, now=NOW + 2 * DAY, renew=True)


def test_an_answer_that_is_refused_does_not_harm_what_is_kept(source, pcs, stranger, intel_needs, collateral, late):
    source.collateral(intel_needs, now=NOW)
    pcs.answers = dict(intel(stranger.collateral(NOW + 2 * DAY)))
    assert source.collateral(intel_needs, now=NOW + 2 * DAY).intel == collateral
    assert {code for _, code in late} == {"signature.invalid"}
    pcs.answers = dict.fromkeys(pcs.answers, Reply(b"rain", headers={"content-type": "application/json"}))
    assert source.collateral(intel_needs, now=NOW + 3 * DAY).intel == collateral
    assert {code for _, code in late[4:]} == {"evidence.malformed"}


@pytest.mark.parametrize(
    ("service", "error"),
    [
        ("foreign", SignatureInvalid),
        ("silent", ServiceUnavailable),
        ("noise", MalformedEvidence),
        ("old", SignatureInvalid),
    ],
)
def test_where_nothing_is_kept_a_bad_answer_is_an_error_and_nothing_is_kept(
    source, cache, pcs, installation, stranger, intel_needs, service, error
):
    pcs.answers = {
        "foreign": dict(intel(stranger.collateral(NOW))),
        "silent": {},
        "noise": dict.fromkeys(pcs.answers, Reply(b"rain", headers={"content-type": "application/json"})),
        "old": dict(intel(installation.collateral(NOW - 40 * DAY))),
    }[service]
    with pytest.raises(error):
        source.collateral(intel_needs, now=NOW)
    assert cache.entries() == ()


def test_asking_anew_hides_no_failure(source, pcs, intel_needs, late):
    source.collateral(intel_needs, now=NOW)
    pcs.answers = {}
    with pytest.raises(ServiceUnavailable):
        source.collateral(intel_needs, now=NOW + 1, renew=True)
    assert late == []


def test_asking_anew_asks_though_it_is_kept(source, pcs, kds, intel_needs, amd_needs):
    source.collateral(intel_needs, amd_needs, now=NOW)
    source.collateral(intel_needs, amd_needs, now=NOW, renew=True)
    assert (len(pcs.seen), len(kds.seen)) == (8, 6)


def test_a_clock_that_went_back_does_not_make_old_things_fresh(source, pcs, intel_needs):
    source.collateral(intel_needs, now=NOW)
    source.collateral(intel_needs, now=NOW - 60)
    assert len(pcs.seen) == 8


# --- offline ----------------------------------------------------------------------------------------------------------


def test_offline_takes_what_is_kept_and_asks_nobody(tmp_path, source, checks, pcs, intel_needs, collateral, late):
    source.collateral(intel_needs, now=NOW)
    fetcher = IntelFetcher("http://127.0.0.1:1")
    offline = CollateralSource(
        Cache(tmp_path / "cache", checks), [fetcher], offline=True, report=lambda *problem: late.append(problem)
    )
    asked = len(pcs.seen)
    for now in (NOW, NOW + 29 * DAY):
        assert offline.collateral(intel_needs, now=now).intel == collateral
    assert len(pcs.seen) == asked
    assert late == []
    with pytest.raises(Unavailable):
        offline.collateral(intel_needs, now=NOW, renew=True)
    with pytest.raises(Unavailable, match="not in the cache"):
        offline.collateral(intel_needs, now=NOW + 31 * DAY)
    with pytest.raises(Unavailable):
        offline.collateral(replace(intel_needs, fmspc=bytes(6)), now=NOW)


def test_without_a_fetcher_for_a_vendor_nobody_is_asked(cache, serve, amd_at, kds, intel_needs):
    source = CollateralSource(cache, [amd_at(serve(kds))])
    with pytest.raises(Unavailable):
        source.collateral(intel_needs, now=NOW)
    assert kds.seen == []


# --- many at once -----------------------------------------------------------------------------------------------------


def run_all(count, act):
    outcomes = []

    def one():
        try:
            outcomes.append(act())
        except StrongroomError as error:
            outcomes.append(error.code)

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_however_many_ask_each_item_is_fetched_once(source, pcs, intel_needs, collateral):
    pcs.before = lambda: time.sleep(0.05)
    outcomes = run_all(16, lambda: source.collateral(intel_needs, now=NOW).intel)
    assert outcomes == [collateral] * 16
    assert len(pcs.seen) == len(set(pcs.seen)) == 4


def test_a_failure_is_shared_by_those_who_waited_for_it(source, pcs, intel_needs):
    pcs.answers = {}
    pcs.before = lambda: time.sleep(0.3)
    assert run_all(12, lambda: source.collateral(intel_needs, now=NOW)) == ["service.unavailable"] * 12
    assert len(pcs.seen) < 4


def test_a_fetcher_that_breaks_leaves_nobody_waiting(cache, intel_needs):
    class Broken:
        def serves(self, _):
            return True

        def fetch(self, _):
            time.sleep(0.2)
            raise KeyboardInterrupt

    source = CollateralSource(cache, [Broken()])
    outcomes = []

    def one():
        try:
            source.collateral(intel_needs, now=NOW)
        except BaseException as error:  # noqa: BLE001 (what is raised is the point)
            outcomes.append(type(error))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert KeyboardInterrupt in outcomes
    assert set(outcomes) <= {KeyboardInterrupt, ServiceUnavailable}
    assert len(outcomes) == 4


def test_sources_that_share_a_directory_fetch_once_between_them(tmp_path, serve, pcs, checks, intel_needs, intel_at):
    pcs.before = lambda: time.sleep(0.05)
    url = serve(pcs)
    sources = [CollateralSource(Cache(tmp_path / "cache", checks), [intel_at(url)]) for _ in range(5)]
    waiting = iter(sources)
    run_all(5, lambda: next(waiting).collateral(intel_needs, now=NOW))
    assert len(pcs.seen) == 4


def test_what_another_process_renewed_is_not_asked_for_again(
    tmp_path, serve, pcs, checks, intel_needs, intel_at, installation
):
    url = serve(pcs)
    first, second = (CollateralSource(Cache(tmp_path / "cache", checks), [intel_at(url)]) for _ in range(2))
    for source in (first, second):
        source.collateral(intel_needs, now=NOW)
    assert len(pcs.seen) == 4
    renew(installation, pcs, NOW + DAY, number=2)
    for source in (first, second):
        found = source.collateral(intel_needs, now=NOW + DAY).intel
        assert json.loads(found.tcb_info)["tcbEvaluationDataNumber"] == 2
    assert len(pcs.seen) == 8


# --- real vendors' collateral -----------------------------------------------------------------------------------------


def test_real_collateral_through_a_local_service_makes_a_real_quote_up_to_date(vectors, serve, tmp_path):
    bundle = json.loads((vectors / "tdx/v4_b0c06f_uptodate.collateral.json").read_text())
    octets = ("tcb_info_signature", "qe_identity_signature", "root_ca_crl", "pck_crl")
    real = IntelCollateral(
        tcb_info=bundle["tcb_info"], tcb_info_chain=bundle["tcb_info_issuer_chain"],
        qe_identity=bundle["qe_identity"], qe_identity_chain=bundle["qe_identity_issuer_chain"],
        pck_crl_chain=bundle["pck_crl_issuer_chain"], **{name: bytes.fromhex(bundle[name]) for name in octets},
    )  # fmt: skip
    service, at = Service(dict(intel(real, fmspc="b0c06f000000"))), 1_751_600_000
    quote = tdx.trim((vectors / "tdx/v4_b0c06f_uptodate.quote").read_bytes())
    needs = needs_of("tdx", quote)
    assert needs == IntelNeeds("tdx", bytes.fromhex("b0c06f000000"), "platform")
    source = CollateralSource(Cache(tmp_path / "c", Checks(VENDOR_ANCHORS)), [IntelFetcher(serve(service))])
    found = tdx.verify(tdx.parse_quote(quote), source.collateral(needs, now=at).intel, VENDOR_ANCHORS, at)
    assert (found.holds, found.tcb_status) == (True, "UpToDate")


def test_fetchers_default_to_the_vendors_themselves():
    assert IntelFetcher()._base == "https://api.trustedservices.intel.com"
    assert AmdFetcher()._base == "https://kdsintf.amd.com"
