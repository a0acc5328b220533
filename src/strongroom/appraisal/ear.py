"""The verdict as an EAR (draft-ietf-rats-ear): a JWT, ES384, that others can read without strongroom.

Knows: the claims of the draft and how checks fold into its trust vector. Does not know: when a token is made, or for whom.
A simulated level is never `affirming`: its status is `warning`, and the level stands in a claim of its own.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey

from strongroom.appraisal.kinds import KINDS
from strongroom.crypto import jose
from strongroom.errors import MalformedRecord
from strongroom.records import codec
from strongroom.records.verdict import Check, Level, Status, Verdict

PROFILE = "tag:github.com,2023:veraison/ear"
AFFIRMING, WARNING, CONTRAINDICATED, NONE = 2, 32, 96, 0
STATUS = {AFFIRMING: "affirming", WARNING: "warning", CONTRAINDICATED: "contraindicated", NONE: "none"}
_KIND = "|".join(KINDS)
VECTOR = {
    "instance-identity": rf"binding\.|policy\.custody\.|({_KIND})\.(anchor|root|pck|chain|leaf|ak|cpak|crl)",
    "configuration": rf"policy\.({_KIND})\b|statement\.launch_spec|policy\.(configuration|launch_spec)",
    "executables": r"statement\.image|policy\.provenance",
    "runtime-opaque": r"events\.|statement\.events|policy\.(artifacts|workload)",
    "hardware": rf"({_KIND})\.|policy\.level",
}
"""Which checks make which claim of the trust vector: a pattern that the beginning of a check's id matches."""


def to_token(verdict: Verdict, key: EllipticCurvePrivateKey, *, issuer: str) -> str:
    """Sign `verdict`; `issuer` is the fingerprint of whoever judged."""
    folded: dict[str, list[Check]] = {name: [] for name in VECTOR}
    for check in verdict.checks:
        for name in _claims_of(check.id):
            folded[name].append(check)
    vector = {name: _tier(checks, verdict.level) for name, checks in folded.items()}
    submodule: dict[str, Any] = {
        "ear.status": STATUS[_overall(verdict)],
        "ear.trustworthiness-vector": vector,
        "ear.appraisal-policy-id": verdict.policy or "none",
    }
    claims = {
        "eat_profile": PROFILE,
        "iat": verdict.time,
        "iss": issuer,
        "ear.verifier-id": {"developer": "strongroom", "build": "strongroom ear v1"},
        "submods": {"cpu0": submodule},
        "strongroom.level": verdict.level.value,
        "strongroom.verdict": codec.to_json(verdict),
    }
    return jose.sign_token(claims, key, kid=issuer)


def from_token(token: str, public: EllipticCurvePublicKey) -> Verdict:
    """The verdict in a token that `public` signed. Raises `SignatureInvalid` or `MalformedRecord`."""
    claims = jose.verify_token(token, public)
    if claims.get("eat_profile") != PROFILE:
        raise MalformedRecord("this token is not an EAR")
    verdict = codec.from_json(Verdict, claims.get("strongroom.verdict"))
    if claims.get("strongroom.level") != verdict.level.value or claims.get("iat") != verdict.time:
        raise MalformedRecord("this token contradicts itself")
    return verdict


@lru_cache(maxsize=1024)
def _claims_of(check: str) -> tuple[str, ...]:
    return tuple(name for name, pattern in VECTOR.items() if re.match(pattern, check))


def _overall(verdict: Verdict) -> int:
    return _tier(list(verdict.checks), verdict.level)


def _tier(checks: list[Check], level: Level) -> int:
    statuses = {check.status for check in checks}
    if Status.FAIL in statuses:
        return CONTRAINDICATED
    if not statuses or Status.NOT_RUN in statuses:
        return NONE
    return AFFIRMING if level in (Level.CONFIDENTIAL, Level.MEASURED) else WARNING
