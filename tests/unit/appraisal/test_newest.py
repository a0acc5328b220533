import dataclasses
import json

import pytest

pytest.importorskip("strongroom_sim")

from strongroom.appraisal.newest import newest
from strongroom.appraisal.pile import Pile
from strongroom.records import codec
from strongroom.records.evidence import AmdCollateral, AwsCollateral, Collateral, TpmCollateral
from strongroom_sim import Installation

NOW = 1_800_000_000
DAY = 86_400


@pytest.fixture(scope="module")
def installation():
    return Installation.ephemeral(NOW - 30 * DAY)


@pytest.fixture
def brought(installation):
    return Collateral(intel=installation.collateral(NOW))


def pile_of(*collaterals):
    pile = Pile()
    for collateral in collaterals:
        pile.add(codec.encode(collateral))
    return pile


def number(collateral):
    return json.loads(collateral.intel.tcb_info)["tcbEvaluationDataNumber"]


def test_without_anything_newer_it_stays_as_it_came(installation, brought):
    older = Collateral(intel=installation.collateral(NOW - DAY))
    for pile in (Pile(), pile_of(older), pile_of(brought)):
        assert newest(brought, pile, now=NOW) == brought


def test_all_of_it_is_replaced_by_newer_word(installation, brought):
    newer = Collateral(intel=installation.collateral(NOW + DAY))
    assert newest(brought, pile_of(newer), now=NOW + DAY) == newer


def test_word_of_the_future_is_not_newer(installation, brought):
    newer = Collateral(intel=installation.collateral(NOW + DAY))
    assert newest(brought, pile_of(newer), now=NOW) == brought


def test_the_number_of_an_evaluation_counts_before_its_day(installation, brought):
    higher = installation.resigned(installation.collateral(NOW - DAY), "tcb_info", tcbEvaluationDataNumber=99)
    found = newest(brought, pile_of(Collateral(intel=higher)), now=NOW)
    assert (number(found), found.intel.tcb_info_signature) == (99, higher.tcb_info_signature)
    assert found.intel.qe_identity == brought.intel.qe_identity
    assert found.intel.pck_crl == brought.intel.pck_crl


def test_documents_on_other_platforms_are_let_be(installation, brought):
    others = [
        installation.resigned(installation.collateral(NOW + 60), "tcb_info", fmspc="00" * 6),
        installation.collateral(NOW + 60, kind="sgx"),
    ]
    for other in others:
        found = newest(brought, pile_of(Collateral(intel=other)), now=NOW + 60)
        assert found.intel.tcb_info == brought.intel.tcb_info


def test_a_bare_document_keeps_the_chain_that_came(installation, brought):
    newer = installation.collateral(NOW + DAY)
    bare = {"tcbInfo": json.loads(newer.tcb_info), "signature": newer.tcb_info_signature.hex()}
    pile = Pile()
    pile.add(json.dumps(bare, separators=(",", ":")).encode())
    found = newest(brought, pile, now=NOW + DAY)
    assert (found.intel.tcb_info, found.intel.tcb_info_chain) == (newer.tcb_info, brought.intel.tcb_info_chain)


@pytest.mark.parametrize("text", ["", "no JSON", "[]", '{"tcbEvaluationDataNumber":"high"}'])
def test_what_does_not_parse_is_neither_replaced_nor_taken(installation, brought, text):
    newer = installation.collateral(NOW + DAY)
    broken = Collateral(intel=dataclasses.replace(brought.intel, tcb_info=text))
    assert newest(broken, pile_of(Collateral(intel=newer)), now=NOW + DAY).intel.tcb_info == text
    wrong = Collateral(intel=dataclasses.replace(newer, tcb_info=text))
    assert newest(brought, pile_of(wrong), now=NOW + DAY).intel.tcb_info == brought.intel.tcb_info


def test_revocation_lists_of_every_vendor_are_replaced_by_their_issuer_s_newer(installation):
    root = installation.root_pem.decode()
    old, new = (installation.crl("root", issued=at, until=at + DAY) for at in (NOW - DAY, NOW))
    other = installation.crl("platform-ca", issued=NOW, until=NOW + DAY)
    pile = Pile()
    for der in (old, new, other):
        pile.add(der)
    brought = Collateral(
        amd=AmdCollateral(b"leaf", root, old),
        aws=AwsCollateral((old, b"no list")),
        tpm=TpmCollateral(root + root, ()),
    )
    found = newest(brought, pile, now=NOW)
    assert found.amd == AmdCollateral(b"leaf", root, new)
    assert found.aws == AwsCollateral((new, b"no list"))
    assert found.tpm.crls == (new,)
    nothing = Collateral(amd=AmdCollateral(b"leaf", "no chain", b""))
    assert newest(nothing, pile, now=NOW) == nothing
    missing = Collateral(amd=AmdCollateral(b"leaf", root, b""))
    assert newest(missing, pile, now=NOW).amd.crl == new
    assert newest(found, pile_of(brought), now=NOW) == found
