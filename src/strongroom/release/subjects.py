"""What a decision concerns, so that a revocation of any of it is found; and which boot of a machine it is about.

Knows: where keys, policies, tenants, artifacts, the worker and its machine stand in a decision. Does not know: what was
revoked (`revocations`), or whether evidence is true: claims come from a verdict.

A boot: where the evidence is a TPM's, its count of resets under its own attestation key, which the TPM signs. Elsewhere
hardware signs nothing of the kind, and the worker's keyset stands for it: a worker makes new keys at each start and
holds them in memory alone. So a worker that is started again on a machine that never went down counts as a new boot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from strongroom.appraisal.kinds import KINDS
from strongroom.errors import UsageError
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes, frame, is_digest
from strongroom.records.evidence import Evidence
from strongroom.records.release import Lease
from strongroom.records.revocation import About, Subject
from strongroom.release.stores.port import Reader
from strongroom.release.stores.revocations import LeaseNotes
from strongroom.release.wire import check_name, tenant_of

BOOT_TAG = "strongroom/boot/v1"
RESETS, SIGNER = "reset_count", "ak_name"
"""The claims of a TPM that tell its boots apart."""
IDENTIFIERS = frozenset(name for kind in KINDS.values() for name in kind.machine)

_MACHINE = re.compile(r"([a-z_]{1,32}):[!-~]{1,256}")

Claims = Mapping[str, str | int]


def notes_of(evidence: Evidence, claims: Claims, *, key_ids: Iterable[str], policy_ids: Iterable[str]) -> LeaseNotes:
    """What a release or a renewal concerns, by the evidence that was judged and the claims that came of it."""
    found = of_names(key_ids, policy_ids)
    found |= {Subject(About.ARTIFACT, artifact) for artifact in evidence.artifacts}
    found.add(Subject(About.WORKER, evidence.keyset.digest))
    kind = KINDS.get(evidence.kind)
    names = kind.machine if kind is not None else ()
    found |= {Subject(About.MACHINE, f"{name}:{claims[name]}") for name in names if claims.get(name)}
    return LeaseNotes(frozenset(found), boot_of(evidence.keyset.digest, claims))


def of_names(key_ids: Iterable[str], policy_ids: Iterable[str]) -> set[Subject]:
    """The keys and policies themselves, and the tenants whose they are."""
    keys, policies = tuple(key_ids), tuple(policy_ids)
    return {
        *(Subject(About.KEY, name) for name in keys),
        *(Subject(About.POLICY, name) for name in policies),
        *(Subject(About.TENANT, tenant_of(name)) for name in (*keys, *policies)),
    }


def notes_at(reader: Reader, lease: Lease) -> LeaseNotes:
    """What was noted of a lease; of one from before anything was, what its record says."""
    noted = reader.lease_notes(lease.id)
    if noted is not None:
        return noted
    found = of_names(lease.key_ids, [lease.policy_id]) | {Subject(About.WORKER, lease.keyset)}
    return LeaseNotes(frozenset(found), boot_of(lease.keyset, {}))


def boot_of(keyset: Digest, claims: Claims) -> Digest:
    """The boot that evidence is from; see the module's head."""
    members: dict[str, object] = {"keyset": keyset}
    if claims.get(SIGNER) and RESETS in claims:
        members = {SIGNER: claims[SIGNER], RESETS: claims[RESETS]}
    return digest_bytes(frame(BOOT_TAG, codec.encode(members)))


def check_subject(subject: Subject) -> Subject:
    """`subject` itself if it can be one of a decision's. Raises `UsageError`.

    A mistyped digest would revoke nothing, and look as if it did.
    """
    about, name = subject.about, subject.name
    if about in {About.KEY, About.POLICY}:
        check_name(name)
    elif about is About.TENANT:
        if name:
            check_name(name)
        if "/" in name:
            raise UsageError("a tenant is what stands before the slash", remedy="Write that alone.")
    elif about in {About.ARTIFACT, About.WORKER}:
        if not is_digest(name):
            raise UsageError(f"{about.value}s are named by a digest", remedy="Write sha256: and 64 hexadecimal digits.")
    else:
        found = _MACHINE.fullmatch(name)
        if found is None or found[1] not in IDENTIFIERS:
            raise UsageError(
                "a machine is named by a claim and its value, as custody lists name it",
                remedy=f"Write CLAIM:VALUE; the claims are {', '.join(sorted(IDENTIFIERS))}.",
            )
    return subject
