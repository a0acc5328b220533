"""What administrators do at a broker: policies and keys. Every act is a leaf of the log, in the transaction of the act.

Knows: what each act changes and writes down. Does not know: whether the caller may do it (`roles`); `who` is the
administrator's fingerprint, which a `Caller` tells only for ids that are theirs; what ends leases (`revocations`).
"""

from __future__ import annotations

from strongroom.errors import ReleaseRefused, UsageError
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.release import Lease, WrappedKey
from strongroom.release import leases, leaves, orders
from strongroom.release.administrators import Administrators
from strongroom.release.demands import quorum_of
from strongroom.release.keys import KeyRing, open_at_broker
from strongroom.release.log import Log
from strongroom.release.revocations import Revocations
from strongroom.release.state import BrokerKeys
from strongroom.release.stores.port import KeyState, Reader, Store, StoredKey, StoredPolicy, Transaction
from strongroom.release.wire import KeyInfo, PolicyInfo, WrapContext, WrapRequest, check_name, check_same_tenant

NO_BOOT = Digest("")
"""No key was released in it."""


class Administration:
    """The administrators' verbs over one store and its log. Each may raise `StoreUnavailable`."""

    def __init__(
        self, store: Store, log: Log, keys: BrokerKeys, ring: KeyRing, *, administrators: Administrators
    ) -> None:
        self._store, self._log, self._ring, self._administrators = store, log, ring, administrators
        self._wrapping, self._fingerprint = keys.wrapping, keys.identity.fingerprint
        self.revocations = Revocations(store, log)

    def put_policy(self, envelope: Envelope, *, who: Digest, now: int) -> PolicyInfo:
        """Take a policy that an owner of its tenant signed; the same policy once more changes nothing.

        Raises `SignatureInvalid`, `MalformedRecord`, or `ReleaseRefused` for a version that is not newer.
        """
        policy, digest = self._administrators.open_policy(envelope.to_bytes())
        check_name(policy.id)
        quorum_of(policy)  # keys of witnesses that are none are refused here, not at the first release
        stored = StoredPolicy(policy.id, policy.version, digest, envelope.to_bytes())

        def put(transaction: Transaction) -> None:
            self._administrators.check_signed([stored])
            newest = transaction.policy(stored.id)
            if newest is not None and (newest.version, newest.digest) == (stored.version, stored.digest):
                self._administrators.check_signed([newest])  # where its signer was removed, this version has ended
                return
            if not transaction.put_policy(stored):
                raise ReleaseRefused(
                    "a policy's version never goes back",
                    detail="policy.version",
                    remedy=f"Raise the version above {newest.version if newest else 0} and sign again.",
                )
            self._log.append(
                transaction, leaves.policy_put(stored.id, stored.version, time=now, policy=stored.digest, who=who)
            )

        self._store.write(put)
        return PolicyInfo(stored.id, stored.version, stored.digest)

    def policies(self) -> tuple[PolicyInfo, ...]:
        """The newest version of each policy."""
        stored = self._store.read(lambda reader: reader.policies())
        return tuple(PolicyInfo(policy.id, policy.version, policy.digest) for policy in stored)

    def create_key(
        self,
        key_id: str,
        policy_id: str,
        *,
        who: Digest,
        now: int,
        max_uses: int | None = None,
        per_boot: bool = False,
    ) -> KeyInfo:
        """A new key under a policy, which may be put later; until then it is released to nobody.

        `max_uses` is how often it may be released at all, None without a limit; with `per_boot` it is released once per
        boot of a machine (see `subjects`). Raises `UsageError`.
        """
        if max_uses is not None and max_uses < 1:
            raise UsageError("a key is released once or more", remedy="Give --uses a number above 0, or leave it out.")
        check_same_tenant(check_name(key_id), check_name(policy_id))
        key = self._ring.create(key_id, policy_id, now=now)

        def put(transaction: Transaction) -> KeyInfo:
            if not transaction.put_key(key):
                raise UsageError("there is already a key of this name", remedy="Choose another name, or use this key.")
            what = "created"
            if max_uses is not None:
                transaction.limit_key(key_id, max_uses)
                what += f" uses={max_uses}"
            if per_boot:
                transaction.limit_key_per_boot(key_id)
                what += " per-boot"
            self._log.append(transaction, leaves.key_event(key_id, what, time=now, who=who))
            return key_info(transaction, key)

        return self._store.write(put)

    def keys(self) -> tuple[KeyInfo, ...]:
        """All versions of all keys."""
        return self._store.read(lambda reader: tuple(key_info(reader, key) for key in reader.keys()))  # noqa: SIM118 (not a dict)

    def wrap(self, key_id: str, request: WrapRequest, *, who: Digest, now: int) -> WrappedKey:
        """Wrap an artifact's data key, which came sealed to this broker. Raises `UsageError` or `ReleaseRefused`."""
        key = self._active(self._store.read(lambda reader: reader.key(key_id)))
        context = WrapContext(self._fingerprint, key_id, request.of)
        wrapped = self._ring.wrap(key, request.of, open_at_broker(self._wrapping, request, context))
        leaf = leaves.key_event(key_id, "wrapped", time=now, who=who, artifact_id=request.of.artifact_id)
        self._store.write(lambda transaction: self._log.append(transaction, leaf))
        return wrapped

    def rotate_key(self, key_id: str, *, who: Digest, now: int) -> KeyInfo:
        """A further version of a key, which wraps from now on; older ones go on unwrapping. Raises `UsageError`."""
        newest = self._active(self._store.read(lambda reader: reader.key(key_id)))
        key = self._ring.create(key_id, newest.policy_id, version=newest.version + 1, now=now)  # the root may be slow

        def rotate(transaction: Transaction) -> KeyInfo:
            if self._active(transaction.key(key_id)).version != newest.version or not transaction.put_key(key):
                raise UsageError("somebody else is rotating this key", remedy="Look with `strongroom keys list`.")
            self._log.append(transaction, leaves.key_event(key_id, "rotated", time=now, who=who))
            return key_info(transaction, key)

        return self._store.write(rotate)

    def rewrap(self, wrapped: WrappedKey, *, who: Digest, now: int) -> WrappedKey:
        """The same data key under the newest version of its key. Raises `UsageError` or `ReleaseRefused`."""
        found = self._store.read(
            lambda reader: (reader.key(wrapped.key_id, wrapped.key_version), reader.key(wrapped.key_id))
        )
        old, new = (self._active(key) for key in found)
        if wrapped.broker != self._fingerprint:
            raise ReleaseRefused("this key was wrapped by another broker", detail="key.broker")
        made = self._ring.wrap(new, wrapped.of, self._ring.unwrap(old, wrapped))
        leaf = leaves.key_event(wrapped.key_id, "rewrapped", time=now, who=who, artifact_id=wrapped.of.artifact_id)
        self._store.write(lambda transaction: self._log.append(transaction, leaf))
        return made

    def retire_key(self, key_id: str, *, who: Digest, now: int) -> tuple[KeyInfo, ...]:
        """End a key's life: it wraps and releases nothing more, and leases that hold it are not renewed.

        Raises `UsageError`.
        """

        def retire(transaction: Transaction) -> tuple[KeyInfo, ...]:
            if not transaction.set_key_state(key_id, KeyState.RETIRED):
                raise UsageError("there is no such key", remedy="See `strongroom keys list`.")
            self._log.append(transaction, leaves.key_event(key_id, "retired", time=now, who=who))
            return tuple(key_info(transaction, key) for key in transaction.keys() if key.id == key_id)  # noqa: SIM118 (not a dict)

        return self._store.write(retire)

    def leases(self, *, now: int) -> tuple[Lease, ...]:
        """All leases, with the state that each has at `now`."""
        return tuple(leases.at(stored.lease, now) for stored in self._store.read(lambda reader: reader.leases()))

    def held(self, lease_id: str) -> tuple[str, ...]:
        """The keys that a lease holds, by id; none where there is no such lease."""
        stored = self._store.read(lambda reader: reader.lease(lease_id))
        return stored.lease.key_ids if stored else ()

    def revoke_lease(self, lease_id: str, *, who: Digest, now: int) -> tuple[Lease, ...]:
        """End one lease now; its worker learns it at its next renewal. Raises `LeaseEnded` if it is not active."""
        return self.revocations.revoke_lease(lease_id, who=who, now=now)

    @staticmethod
    def _active(key: StoredKey | None) -> StoredKey:
        if key is None or key.state is not KeyState.ACTIVE:
            raise UsageError(
                "there is no such key, or it is retired", remedy="Create it first: `strongroom keys create`."
            )
        return key


def key_info(reader: Reader, key: StoredKey) -> KeyInfo:
    """`key` as its owner sees it."""
    uses = reader.key_uses(key.id)
    limit, used = (uses.limit, uses.used) if uses else (None, None)
    origin, refused_from = reader.key_origin(key.id, key.version), orders.refused_from(reader, key)
    per_boot = reader.key_released_in(key.id, NO_BOOT) is not None
    return KeyInfo(
        key.id, key.version, key.policy_id, key.state, key.created, limit, used, origin, refused_from, per_boot
    )
