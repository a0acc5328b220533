"""The report: says first whether the bundle holds, who got which key, and claims nothing."""

import dataclasses

from strongroom.audit.report import CONTROLS, to_markdown
from strongroom.audit.verify import verify
from strongroom.records.release import Leaf


def test_it_tells_who_got_which_key_on_what_proof_and_until_when(past):
    text = to_markdown(verify(past.whole, past.trust))
    assert "**The bundle holds.**" in text
    for wanted in ("`model`", past.one.lease, past.other.lease, "`tdx`, `simulated`", past.world.policy.digest):
        assert wanted in text
    released = [line for line in text.splitlines() if "| `model` |" in line]
    assert len(released) == 2


def test_a_revoked_lease_shows_and_one_that_went_on_too(past):
    lines = to_markdown(verify(past.whole, past.trust)).splitlines()
    revoked = [line for line in lines if "revoked at" in line]
    assert len(revoked) == 1
    assert past.other.lease in revoked[0]
    assert any(line.startswith(f"| `{past.one.lease}` | 1 |") and "not revoked" in line for line in lines)


def test_every_control_is_named_with_what_supports_it_and_none_is_claimed(past):
    text = to_markdown(verify(past.whole, past.trust))
    for clause, *_ in CONTROLS:
        assert clause in text
    assert "This is no statement of compliance" in text
    assert "compliant" not in text


def test_a_bundle_that_does_not_hold_is_called_so_first(past, elsewhere):
    text = to_markdown(verify(elsewhere.whole, past.trust))
    assert "**The bundle does not hold.**" in text.splitlines()[2]
    assert "Neither the broker nor its log could be established." in text
    assert "No release in this bundle could be established." in text
    assert "nothing in this bundle" in text


def test_text_from_a_log_cannot_become_markup(past):
    audit = verify(past.whole, past.trust)
    evil = Leaf("revocation", 10**15, past.one.lease, (), "`|</td><script>\n# all is well")
    opened = dataclasses.replace(audit.opened, leaves={**audit.opened.leaves, 99: evil})
    text = to_markdown(dataclasses.replace(audit, opened=opened))
    assert "<script>" not in text
    assert "\n# all is well" not in text
    assert "at no time that a calendar has" in text
