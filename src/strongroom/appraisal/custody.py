"""Whose machine it is: what hardware signs about itself, against custodians' lists.

Quotes with a chain that holds may come from hardware that somebody opened: attacks on the memory bus have taken
attestation keys out of genuine machines. The identity of the machine is what is left to check.

Knows: allow and deny, sites, jurisdictions, validity of lists. Does not know: how a list was signed (`signed`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from strongroom.records.digest import Digest
from strongroom.records.policy import CustodyPolicy, Requirement
from strongroom.records.reference import CustodyList, Machine
from strongroom.records.verdict import Check, judged, not_run, passed

ALLOW, DENY = "allow", "deny"
NAMELESS = "the evidence does not say which machine it is from"
Claims = Mapping[str, str | int]


def check_custody(
    claims: Claims,
    identifiers: Sequence[str],
    lists: Sequence[tuple[Digest, CustodyList]],
    wanted: CustodyPolicy,
    *,
    now: int,
) -> list[Check]:
    """Four checks. `identifiers` are the claims that name the machine; without any of them nothing is allowed.

    A list allows while it holds and its signer counts; it denies whoever signed it and whenever it ends: a warning that has
    grown old is no word that all is well.
    """
    names = {(name, str(claims[name])) for name in identifiers if claims.get(name)}
    every = [found for _, found in lists]
    denied = _find(names, every, DENY)
    if wanted.custodians.any is not None:
        named = bool(names) or not _denies(identifiers, every)
        first = _denied(denied) if named else not_run("policy.custody.denied", NAMELESS)
        return [first, passed("policy.custody.allowed", wanted.custodians.any), *_anywhere(wanted)]
    if not names:
        return [not_run(f"policy.custody.{name}", NAMELESS) for name in ("denied", "allowed", "site", "jurisdiction")]
    live = [(signer, found) for signer, found in lists if found.issued <= now < found.not_after]
    counting = [f for signer, f in live if wanted.custodians.admits(signer) and f.version >= wanted.minimum]
    allowed = _find(names, counting, ALLOW)
    if not counting:
        missing = "no current list of a custodian that the policy names was given"
        rest = [not_run(f"policy.custody.{name}", missing) for name in ("allowed", "site", "jurisdiction")]
        return [_denied(denied), *rest]
    met = [m for m in allowed if wanted.sites.admits(m.site) and wanted.jurisdictions.admits(m.jurisdiction)]
    shown = (met or allowed)[0] if allowed else None
    return [
        _denied(denied),
        judged("policy.custody.allowed", bool(allowed), _where(shown)),
        _place("site", shown.site if shown else None, wanted.sites),
        _place("jurisdiction", shown.jurisdiction if shown else None, wanted.jurisdictions),
    ]


def _find(names: set[tuple[str, str]], lists: Sequence[CustodyList], verdict: str) -> list[Machine]:
    return [
        machine
        for found in lists
        for machine in found.machines
        if machine.verdict == verdict and (machine.identifier, machine.value) in names
    ]


def _denies(identifiers: Sequence[str], lists: Sequence[CustodyList]) -> bool:
    """Whether any machine of this kind is denied, so that one without a name could be it."""
    return any(m.verdict == DENY and m.identifier in identifiers for found in lists for m in found.machines)


def _denied(found: Sequence[Machine]) -> Check:
    detail = f"denied by its {found[0].identifier}" if found else "on no list of denied machines that was given"
    return judged("policy.custody.denied", not found, detail)


def _where(machine: Machine | None) -> str:
    return f"{machine.identifier}, at {machine.site}" if machine else "no custodian allows this machine"


def _place(name: str, value: str | None, wanted: Requirement) -> Check:
    identifier = f"policy.custody.{name}"
    if wanted.any is not None:
        return passed(identifier, wanted.any)
    if value is None:
        return not_run(identifier, "the machine is on no list that counts")
    return judged(identifier, wanted.admits(value), value)


def _anywhere(wanted: CustodyPolicy) -> list[Check]:
    """Without custodians nobody says where a machine stands."""
    return [_place("site", None, wanted.sites), _place("jurisdiction", None, wanted.jurisdictions)]
