"""What was verified once is not verified again while it holds: never longer, never for other bytes, never past its bound."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from dcap_world import DATA, NOW, failures, make_place

from strongroom.records.verdict import all_passed
from strongroom.tee.cache import ALWAYS, Verified, Window
from strongroom.tee.dcap import procedure, signatures
from strongroom_sim import Chip

LIFE = 30 * 86_400


@pytest.fixture
def fresh() -> Any:
    """A TDX installation of which nothing was verified yet."""
    procedure.forget()
    return make_place("tdx")


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of things whose raw signature was checked."""
    seen: list[str] = []
    check = signatures.check

    def count(key: Any, signature: bytes, data: bytes, what: str) -> bool:
        seen.append(what)
        return check(key, signature, data, what)

    monkeypatch.setattr(signatures, "check", count)
    return seen


def test_of_a_second_quote_only_its_own_signature_is_checked(fresh: Any, counted: list[str]):
    first = fresh.judge(fresh.quote)
    assert counted == ["tdx.tcb_info", "tdx.qe_identity", "the QE report", "the quote"]
    counted.clear()
    assert fresh.judge(fresh.quote) == first
    assert counted == ["the quote"]


def test_another_platform_shares_the_documents_and_has_a_path_of_its_own(fresh: Any, counted: list[str]):
    fresh.judge(fresh.quote)
    counted.clear()
    platform = replace(fresh.installation.platform, ppid=bytes(16))
    elsewhere = fresh.installation.reissued("pck", NOW, platform=platform)
    genuine = fresh.judge(Chip(elsewhere, mrtd=bytes(48)).quote(DATA))
    assert all_passed(genuine.checks)
    assert genuine.claims["ppid"] == "00" * 16
    assert counted == ["the QE report", "the quote"]


def test_what_was_remembered_ends_with_the_first_thing_that_ends(fresh: Any):
    assert all_passed(fresh.judge(fresh.quote).checks)
    assert all_passed(fresh.judge(fresh.quote, now=NOW + LIFE).checks)
    assert failures(fresh.judge(fresh.quote, now=NOW + LIFE + 1)) == {"tdx.root.crl", "tdx.pck.crl"}
    assert failures(fresh.judge(fresh.quote, now=NOW - 3601)) == {"tdx.root.crl", "tdx.pck.crl"}
    assert all_passed(fresh.judge(fresh.quote).checks)


@pytest.mark.parametrize("member", ["tcb_info", "qe_identity"])
def test_a_document_ends_while_the_rest_goes_on(fresh: Any, member: str):
    soon = fresh.installation.resigned(fresh.collateral, member, nextUpdate="2026-09-21T14:13:21Z")
    assert all_passed(fresh.judge(fresh.quote, soon, now=NOW + 1).checks)
    assert failures(fresh.judge(fresh.quote, soon, now=NOW + 2)) == {f"tdx.{member}.fresh"}


def test_the_certificate_of_a_platform_ends_while_the_rest_goes_on(fresh: Any):
    ten_years = 3650 * 86_400
    older = fresh.installation.reissued("pck", NOW - ten_years + 86_400 + 5)
    quote = Chip(older, mrtd=bytes(48)).quote(DATA)
    assert all_passed(fresh.judge(quote, now=NOW + 5).checks)
    assert failures(fresh.judge(quote, now=NOW + 6)) == {"tdx.pck.chain"}


def test_a_platform_revoked_since_is_refused_with_the_newer_list(fresh: Any):
    assert all_passed(fresh.judge(fresh.quote).checks)
    newer = fresh.installation.collateral(NOW, revoked=("pck",))
    assert failures(fresh.judge(fresh.quote, newer)) == {"tdx.pck.crl"}
    only = replace(fresh.collateral, pck_crl=newer.pck_crl)
    assert failures(fresh.judge(fresh.quote, only)) == {"tdx.pck.crl"}


def test_a_signer_revoked_since_is_refused_with_the_newer_list(fresh: Any):
    assert all_passed(fresh.judge(fresh.quote).checks)
    newer = fresh.installation.collateral(NOW, revoked=("tcb-signing",))
    only = replace(fresh.collateral, root_ca_crl=newer.root_ca_crl)
    assert failures(fresh.judge(fresh.quote, only)) == {"tdx.tcb_info.signer", "tdx.qe_identity.signer"}


@pytest.mark.parametrize("member", ["tcb_info_signature", "qe_identity_signature", "root_ca_crl", "pck_crl"])
def test_one_other_bit_is_another_thing(fresh: Any, member: str):
    assert all_passed(fresh.judge(fresh.quote).checks)
    changed = bytearray(getattr(fresh.collateral, member))
    changed[-1] ^= 1
    assert not all_passed(fresh.judge(fresh.quote, replace(fresh.collateral, **{member: bytes(changed)})).checks)
    assert all_passed(fresh.judge(fresh.quote).checks)


def test_an_anchor_that_was_taken_away_no_longer_counts(fresh: Any):
    from dcap_world import JUDGES

    assert all_passed(fresh.judge(fresh.quote).checks)
    for anchors in ([], [replace(fresh.anchor, kind="sgx")], [make_place("tdx").anchor]):
        genuine = JUDGES["tdx"](fresh.quote, fresh.collateral, anchors, NOW)
        assert failures(genuine) == {"tdx.anchor"}
        assert dict(genuine.claims) == {}


def test_what_failed_is_tried_again(fresh: Any, counted: list[str]):
    broken = replace(fresh.collateral, tcb_info_signature=bytes(64))
    for _ in range(2):
        assert failures(fresh.judge(fresh.quote, broken)) == {"tdx.tcb_info.signature"}
    assert counted.count("tdx.tcb_info") == 2


def test_a_kind_does_not_profit_from_what_another_verified():
    from dcap_world import JUDGES

    tdx, sgx = make_place("tdx"), make_place("sgx")
    assert all_passed(tdx.judge(tdx.quote).checks)
    same = JUDGES["sgx"](sgx.quote, tdx.collateral, [sgx.anchor], NOW)
    assert not all_passed(same.checks)


def test_at_most_so_many_are_remembered_and_the_least_used_goes_first():
    memory = Verified[int](3)
    for number in range(3):
        memory.put(number, number, ALWAYS)
    assert memory.get(0, NOW) == 0
    memory.put(3, 3, ALWAYS)
    assert [memory.get(number, NOW) for number in range(4)] == [0, None, 2, 3]


def test_a_window_includes_both_its_ends():
    memory = Verified[str]()
    memory.put("key", "value", Window(10, 20).within(Window(5, 15)))
    assert [memory.get("key", now) for now in (9, 10, 15, 16)] == [None, "value", "value", None]


def test_many_threads_find_what_one_would(fresh: Any):
    quotes = [Chip(fresh.installation, mrtd=bytes([number]) * 48).quote(DATA) for number in range(8)]
    expected = [fresh.judge(quote) for quote in quotes]
    procedure.forget()
    found: dict[int, Any] = {}

    def judge(number: int) -> None:
        found[number] = [fresh.judge(quote) for quote in quotes]

    threads = [threading.Thread(target=judge, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[number] == expected for number in range(4))
