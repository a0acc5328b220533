"""Who speaks to a broker: workers, who prove and renew, and administrators, who keep keys and policies there.

Knows: the broker's paths, and what of an answer is checked before it is believed. Does not know: how evidence is made,
or what opens with a key. The broker is named by its fingerprint; its address is only where to look. Transport needs no
secrecy of its own: data keys travel sealed both ways, answers are signed, logged and checked, administrators'
requests signed one by one. Not covered: several brokers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar
from urllib.parse import quote

import httpx2
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strongroom.appraisal import ear
from strongroom.channel.away import why
from strongroom.crypto.signatures import PublicKey, SigningKey, fingerprint, sign_envelope
from strongroom.errors import LogInvalid, MalformedRecord, NotAuthorised, ServiceUnavailable, UsageError
from strongroom.receipts.cosignature import Quorum
from strongroom.receipts.destruction import check_destruction
from strongroom.receipts.identity import open_identity, token_key
from strongroom.receipts.proof import verify_proof
from strongroom.records import codec
from strongroom.records.audit import AuditPage, AuditQuery
from strongroom.records.cell import Cell
from strongroom.records.destruction import DestructionDocument
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.evidence import Evidence, EvidenceBundle
from strongroom.records.explanation import ExplainRequest, Explanation, PolicyTrial
from strongroom.records.release import (
    BrokerIdentity,
    Challenge,
    Edition,
    ExtensionRequest,
    Leaf,
    Lease,
    LogProof,
    ReleaseAnswer,
    ReleaseRequest,
    RenewalRequest,
    WrappedKey,
)
from strongroom.records.revocation import (
    LiftRequest,
    Reason,
    Revocation,
    RevocationList,
    RevocationRequest,
    Revoked,
    Subject,
    SweepPage,
    SweepRequest,
)
from strongroom.records.verdict import Verdict
from strongroom.release import leaves, wire
from strongroom.release.appointments import appoint
from strongroom.release.grants import read_grant
from strongroom.release.keys import seal_import, seal_to_broker
from strongroom.release.owners import sign_request
from strongroom.release.problem import from_problem
from strongroom.release.roles import Administrator, Role
from strongroom.release.wire import RECEIPTS_PAYLOAD_TYPE, ReceiptsRoot

T = TypeVar("T")
TIMEOUT = httpx2.Timeout(30.0, connect=5.0)


class BrokerClient:
    """One broker, at `url`, with this `fingerprint`. May be shared by threads. Nothing is sent before the first verb.

    `identity` is an administrator's private key on P-256, which only their verbs need. Where `witnesses` are named, a proof
    from the log counts only when enough of them signed its checkpoint. Every verb may raise
    `ServiceUnavailable` where the broker does not answer, `SignatureInvalid` where another one answers in its place,
    and what the broker itself raised.
    """

    def __init__(
        self,
        url: str,
        *,
        fingerprint: Digest,
        identity: SigningKey | None = None,
        transport: httpx2.BaseTransport | None = None,
        clock: Callable[[], float] = time.time,
        witnesses: Quorum | None = None,
    ) -> None:
        if identity is not None and not isinstance(identity, EllipticCurvePrivateKey):
            raise UsageError("an administrator's key is on P-256", remedy="Make one with `strongroom keys new`.")
        self._fingerprint, self._owner, self._clock = fingerprint, identity, clock
        self.witnesses = witnesses
        self._known: tuple[Envelope, BrokerIdentity] | None = None
        try:
            self._http = httpx2.Client(base_url=url, transport=transport, timeout=TIMEOUT, trust_env=False)
        except (httpx2.InvalidURL, ValueError):
            raise UsageError("this is not the address of a broker", remedy="Write http://HOST:PORT.") from None
        if self._http.base_url.scheme not in {"http", "https"} or not self._http.base_url.host:
            raise UsageError("this is not the address of a broker", remedy="Write http://HOST:PORT.")

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Who it is

    @property
    def identity(self) -> BrokerIdentity:
        """The broker's public keys, fetched once and checked against the fingerprint."""
        return self._identify()[1]

    @property
    def identity_envelope(self) -> Envelope:
        """The same, signed, to show to others."""
        return self._identify()[0]

    def verdict(self, token: str) -> Verdict:
        """The verdict in a token of this broker. Raises `SignatureInvalid` or `MalformedRecord`."""
        return ear.from_token(token, token_key(self.identity))

    # Workers

    def challenge(self, purpose: str) -> Challenge:
        """A fresh nonce for `purpose`, good for two minutes and one attempt."""
        return self.post(wire.CHALLENGES_PATH, wire.ChallengeRequest(purpose), Challenge)

    def release(self, request: ReleaseRequest) -> ReleaseAnswer:
        """Prove and obtain keys; the grants are then opened by `grants.open_grant`.

        Raises `AppraisalRefused` or `ReleaseRefused` for a no, `GrantInvalid` or `LogInvalid` where a yes is not one that
        this broker signed and logged.
        """
        answer = self.post(wire.RELEASES_PATH, request, ReleaseAnswer)
        self._check(answer, leaves.RELEASE, request.bundle.evidence)
        return answer

    def renew(self, request: RenewalRequest | ExtensionRequest) -> ReleaseAnswer:
        """Prove again and go on, perhaps with further keys. Raises as `release`, and `LeaseEnded`: revoked, or expired."""
        verb, keys = ("extend", len(request.keys)) if isinstance(request, ExtensionRequest) else ("renew", 0)
        answer = self.post(f"{wire.LEASES_PATH}/{_segment(request.lease_id)}/{verb}", request, ReleaseAnswer)
        if answer.lease_id != request.lease_id or len(answer.grants) != keys:
            raise LogInvalid("the broker answered for another lease")
        self._check(answer, leaves.RENEWAL, request.bundle.evidence)
        return answer

    def post_receipts(self, lease_id: str, receipt_key: Ed25519PrivateKey, count: int, root: bytes) -> LogProof:
        """Log the Merkle root (32 bytes) over `count` receipts made under a live lease, signed with its receipt key."""
        record = ReceiptsRoot(lease_id, int(self._clock() * 1_000_000), count, root)
        envelope = sign_envelope(RECEIPTS_PAYLOAD_TYPE, codec.encode(record), receipt_key)
        proof = self.post(wire.RECEIPTS_PATH, envelope, LogProof)
        leaf = self._logged(proof)
        if leaf != leaves.receipts_posted(record, keyset=leaf.digests[0], time=leaf.time):
            raise LogInvalid("the broker logged something else than what it was given")
        return proof

    def ask_cell(self, cell_id: str, verb: str, request: Envelope, kind: type[T]) -> T:
        """Send a signed request to a cell (`cell_client` makes it, and checks the answer)."""
        return self.post(f"{wire.CELLS_PATH}/{_segment(cell_id)}/{verb}", request, kind)

    # Administrators

    def create_key(
        self, key_id: str, policy_id: str, *, max_uses: int | None = None, per_boot: bool = False
    ) -> wire.KeyInfo:
        """A new key at the broker, which never leaves it.

        `max_uses` limits how often it may be released; with `per_boot` it is released once per boot of a machine.
        """
        wanted = wire.KeyCreation(key_id, policy_id, max_uses, per_boot)
        return self._owned("POST", wire.KEYS_PATH, wire.KeyInfo, wanted)

    def keys(self) -> tuple[wire.KeyInfo, ...]:
        """All keys, with their policies and states."""
        return self._owned("GET", wire.KEYS_PATH, wire.KeyList).keys

    def retire_key(self, key_id: str) -> tuple[wire.KeyInfo, ...]:
        """End a key's life: it wraps and releases nothing more, and its leases are not renewed."""
        return self._owned("POST", f"{wire.KEYS_PATH}/{_segment(key_id)}/retire", wire.KeyList).keys

    def wrap(self, key_id: str, of: Edition, data_key: bytes) -> WrappedKey:
        """`data_key` (32 bytes) under a key at the broker, to lie beside the artifact.

        It travels sealed to this broker.
        """
        context = wire.WrapContext(self._fingerprint, key_id, of)
        request = seal_to_broker(self.identity.wrapping, data_key, context)
        wrapped = self._owned("POST", f"{wire.KEYS_PATH}/{_segment(key_id)}/wrap", WrappedKey, request)
        if (wrapped.key_id, wrapped.broker, wrapped.of) != (key_id, self._fingerprint, of):
            raise MalformedRecord("the broker wrapped something else than what it was given")
        return wrapped

    def rotate_key(self, key_id: str) -> wire.KeyInfo:
        """A further version of a key, which wraps from now on; older ones go on unwrapping."""
        return self._owned("POST", f"{wire.KEYS_PATH}/{_segment(key_id)}/rotate", wire.KeyInfo)

    def rewrap(self, wrapped: WrappedKey) -> WrappedKey:
        """The same data key under the newest version of its key; it never leaves the broker."""
        path = f"{wire.KEYS_PATH}/{_segment(wrapped.key_id)}/rewrap"
        made = self._owned("POST", path, WrappedKey, wrapped)
        if (made.key_id, made.broker, made.of) != (wrapped.key_id, self._fingerprint, wrapped.of):
            raise MalformedRecord("the broker wrapped something else than what it was given")
        return made

    def import_key(self, key_id: str, policy_id: str, kek: bytes, *, max_uses: int | None = None) -> wire.KeyInfo:
        """A key made elsewhere (32 random bytes) at the broker, as if it was created there; it travels sealed to it."""
        context = wire.ImportContext(self._fingerprint, key_id, policy_id, max_uses)
        request = seal_import(self.identity.wrapping, kek, context)
        return self._owned("POST", f"{wire.KEYS_PATH}/{_segment(key_id)}/import", wire.KeyInfo, request)

    def order_rekey(self, key_id: str, least_version: int, since: int) -> tuple[wire.KeyInfo, ...]:
        """Let nothing wrapped under versions below `least_version` be released from `since` on (Unix seconds)."""
        order = wire.RekeyOrder(least_version, since)
        return self._owned("POST", f"{wire.KEYS_PATH}/{_segment(key_id)}/order", wire.KeyList, order).keys

    def destroy_key(self, key_id: str) -> DestructionDocument:
        """Destroy a retired key for ever, and end the leases that hold it; the proof, which was checked. Again, the same.

        Raises `LogInvalid` for a proof that does not hold.
        """
        path = f"{wire.KEYS_PATH}/{_segment(key_id)}/destroy"
        document = self._owned("POST", path, DestructionDocument)
        if check_destruction(document, self._fingerprint, self.witnesses).key_id != key_id:
            raise LogInvalid("the broker destroyed another key than the one it was told to")
        return document

    def explain(self, bundle: EvidenceBundle, keys: Sequence[str], draft: Envelope | None = None) -> Explanation:
        """What would come of this evidence for these keys, and under a policy that is not in force; changes nothing."""
        return self._owned("POST", wire.EXPLAIN_PATH, Explanation, ExplainRequest(bundle, tuple(keys), draft))

    def try_policy(self, envelope: Envelope) -> PolicyTrial:
        """Which live leases would still pass under a signed policy; changes nothing."""
        return self._owned("POST", wire.TRIAL_PATH, PolicyTrial, envelope)

    def create_cell(self, creation: wire.CellCreation) -> Cell:
        """A new counter or budget; nobody resets it."""
        return self._owned("POST", wire.CELLS_PATH, Cell, creation)

    def cells(self) -> tuple[Cell, ...]:
        """All cells as they stand."""
        return self._owned("GET", wire.CELLS_PATH, wire.CellList).cells

    def cell(self, cell_id: str) -> Cell:
        """One cell as it stands."""
        return self._owned("GET", f"{wire.CELLS_PATH}/{_segment(cell_id)}", Cell)

    def put_policy(self, envelope: Envelope) -> wire.PolicyInfo:
        """Bring a signed policy into force; its version never goes back."""
        return self._owned("POST", wire.POLICIES_PATH, wire.PolicyInfo, envelope)

    def policies(self) -> tuple[wire.PolicyInfo, ...]:
        """The newest version of each policy."""
        return self._owned("GET", wire.POLICIES_PATH, wire.PolicyList).policies

    def leases(self) -> tuple[Lease, ...]:
        """All leases, with the state that each has now."""
        return self._owned("GET", wire.LEASES_PATH, wire.LeaseList).leases

    def revoke(self, lease_id: str) -> tuple[Lease, ...]:
        """End one lease. Raises `LeaseEnded` if it is not active."""
        return self._owned("POST", f"{wire.LEASES_PATH}/{_segment(lease_id)}/revoke", wire.LeaseList).leases

    def revoke_subject(self, subject: Subject, reason: Reason = Reason.UNSPECIFIED) -> Revoked:
        """From now on refuse what concerns `subject`, until it is lifted; and which leases that ended."""
        return self._owned("POST", wire.REVOCATIONS_PATH, Revoked, RevocationRequest(subject, reason))

    def revocations(self) -> tuple[Revocation, ...]:
        """All revocations in force."""
        return self._owned("GET", wire.REVOCATIONS_PATH, RevocationList).revocations

    def lift(self, subject: Subject) -> tuple[Revocation, ...]:
        """Let what concerns `subject` be released again; those that remain in force."""
        return self._owned("POST", f"{wire.REVOCATIONS_PATH}/lift", RevocationList, LiftRequest(subject)).revocations

    def sweep(self, *, dry_run: bool = False) -> Iterator[SweepPage]:
        """Have every live lease judged again, page by page, by what the broker knows now, and those ended that fail.

        With `dry_run` nothing is ended. Raises `LogInvalid` where the broker goes round in circles.
        """
        after: str | None = ""
        while after is not None:
            page = self._owned("POST", wire.SWEEPS_PATH, SweepPage, SweepRequest(after, dry_run))
            if page.next is not None and page.next <= after:
                raise LogInvalid("the broker's pages of its leases do not follow each other")
            yield page
            after = page.next

    def administrators(self) -> tuple[Administrator, ...]:
        """Who acts at the broker: roots first. A tenant's own sees its tenant's, and those who act for every tenant."""
        return self._owned("GET", wire.ADMINISTRATORS_PATH, wire.AdministratorList).administrators

    def add_administrator(self, key: PublicKey, role: Role, tenant: str) -> Administrator:
        """Make the holder of `key` (P-256) `role` for a tenant, or for `roles.EVERY`; this client's identity is a root's."""
        word = appoint(key, role, tenant, broker=self._fingerprint, root=self._signing())
        return self._person("POST", wire.ADMINISTRATORS_PATH, fingerprint(key), word)

    def remove_administrator(self, name: Digest) -> Administrator:
        """End the administrator whose key has this fingerprint: their tokens, and policies that only they signed."""
        return self._person("DELETE", f"{wire.ADMINISTRATORS_PATH}/{_segment(name)}", name)

    def audit(self, *, lease: str | None = None, since: int = 0, until: int = codec.MAX_INTEGER) -> Iterator[AuditPage]:
        """The log, page by page, with what the broker keeps of its decisions: of one lease, or of a span of time.

        All pages are of the log's size at the first. Raises `LogInvalid` where a page does not follow the one before.
        """
        start = size = 0
        while True:
            query = AuditQuery(start, size, lease, since, until)
            page = self._owned("POST", wire.AUDIT_PATH, AuditPage, query)
            if size not in {0, page.size} or not start < page.next <= page.size:
                raise LogInvalid("the broker's pages of its log do not follow each other")
            yield page
            start, size = page.next, page.size
            if start == size:
                return

    def erase(self, value: str) -> int:
        """Erase what opens `value` in leaves of the log; how many openings there were.

        `value` is a fingerprint, the id of a key, policy or cell, or `TENANT/` for all ids of a tenant.
        """
        return self._owned("POST", wire.ERASURES_PATH, wire.Erased, wire.ErasureRequest(value)).openings

    # Below the verbs

    def _person(self, method: str, path: str, name: Digest, record: object = None) -> Administrator:
        found = self._owned(method, path, wire.AdministratorList, record).administrators
        if [one.fingerprint for one in found] != [name]:
            raise MalformedRecord("the broker answered about another administrator")
        return found[0]

    def _signing(self) -> EllipticCurvePrivateKey:
        if self._owner is None:
            raise NotAuthorised(
                "this needs an administrator's key", remedy="Give the administrator's private key (--identity)."
            )
        return self._owner

    def _identify(self) -> tuple[Envelope, BrokerIdentity]:
        if self._known is None:
            envelope = Envelope.from_bytes(self._send("GET", wire.IDENTITY_PATH, b""))
            self._known = envelope, open_identity(envelope, self._fingerprint)
        return self._known

    def _check(self, answer: ReleaseAnswer, event: str, evidence: Evidence) -> None:
        grants = [read_grant(envelope, self.identity) for envelope in answer.grants]
        leaf = self._logged(answer.proof)
        verdict = self.verdict(answer.token)
        if not verdict.accepted or verdict.evidence != evidence.digest:
            raise LogInvalid("the broker's token is not a yes to this evidence")
        leaves.check_decided(leaf, event, evidence=evidence, answer=answer, grants=grants, level=verdict.level)

    def _logged(self, proof: LogProof) -> Leaf:
        known = self.identity
        return verify_proof(proof, origin=known.log_origin, log_key=known.log, witnesses=self.witnesses)

    def _owned(self, method: str, path: str, kind: type[T], record: object = None) -> T:
        """A request that an administrator signs."""
        key = self._signing()
        body = b"" if record is None else codec.encode(record)
        token = sign_request(key, broker=self._fingerprint, method=method, path=path, body=body, now=int(self._clock()))
        self._identify()  # an administrator's word goes to the right broker, or nowhere
        return codec.decode(kind, self._send(method, path, body, {"authorization": f"Bearer {token}"}))

    def post(self, path: str, record: object, kind: type[T]) -> T:
        """What the broker answers at `path` to a `record` that proves itself; whoever asks checks it."""
        return codec.decode(kind, self._send("POST", path, codec.encode(record)))

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str] | None = None) -> bytes:
        """The body of a yes, of bounded size. Raises what the broker raised, or `ServiceUnavailable`."""
        sent = {"content-type": "application/json", "accept-encoding": "identity", **(headers or {})}
        try:
            with self._http.stream(method, path, content=body, headers=sent) as response:
                answer, status = _read(response), response.status_code
        except httpx2.HTTPError as error:
            raise ServiceUnavailable("the broker does not answer", detail=why(error)) from None
        if status != 200:  # noqa: PLR2004 (the one status of a yes)
            raise from_problem(answer, status)
        return answer


def _read(response: httpx2.Response) -> bytes:
    """The whole body, of bounded size, as it was sent: what was compressed could be larger than it looks."""
    if response.headers.get("content-encoding", "identity") != "identity":
        raise MalformedRecord("the broker's answer is in an encoding that was not asked for")
    body = bytearray()
    for part in response.iter_bytes():
        body += part
        if len(body) > wire.MAX_ANSWER_BYTES:
            raise MalformedRecord(f"the broker's answer exceeds {wire.MAX_ANSWER_BYTES} bytes")
    return bytes(body)


def _segment(name: str) -> str:
    """`name` as one segment of a path, whatever is in it."""
    return quote(name, safe="")
