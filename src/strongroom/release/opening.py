"""A broker from a state directory: keys, database, profile, appraiser, put together.

Knows: which parts belong together. Does not know: what any of them does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from strongroom.appraisal.signed import NOTHING, Known
from strongroom.errors import UsageError
from strongroom.release import state
from strongroom.release.archive import KEEP_DAYS
from strongroom.release.broker import Broker
from strongroom.release.enrolments import Enroller
from strongroom.release.keys import KeyRing
from strongroom.release.present import Given, Present
from strongroom.release.profile import PRODUCTION, check_profile
from strongroom.release.stores.port import KeyState, Store
from strongroom.release.witness_client import Seat
from strongroom.release.witnesses import Witnesses
from strongroom.tee.anchors import TrustAnchor


def open_broker(
    directory: Path,
    *,
    anchors: Sequence[TrustAnchor],
    owners: Sequence[EllipticCurvePublicKey],
    profile: str = PRODUCTION,
    known: Known = NOTHING,
    keep_days: int = KEEP_DAYS,
    witnesses: Sequence[Seat] = (),
    least: int = 0,
    root: state.FindRoot | None = None,
    source: Callable[[], Given] | None = None,
    sweep_seconds: int = 0,
    enroller: Enroller | None = None,
) -> Broker:
    """The broker whose state lies in `directory`, made there at the first start.

    `known` are signed reference values, custody lists and provenance; policies say whose count. Instead of it, `source`
    reads all that, and collateral of the broker's own; each `sweep_seconds`, if above 0, it is read anew and every live
    lease is judged by it. What decisions rested on is kept for `keep_days`, and nothing for 0. `root` finds its root key
    where that is in no file of its directory. `enroller` enrols TPMs, and its notes count here.

    `witnesses` are told of every new state of its log; with `least` above 0, so many must sign it before an answer leaves.

    Raises `UsageError` or `SimulationNotAccepted` (see `profile`), `FileUnreadable` (keys), `StoreUnavailable` (database,
    or a root that is not this database's), `LogSetBack` where a witness saw more of the log, or another one,
    `WitnessesUnavailable` where too few say, `TokenUnavailable`, and what `root` raises.
    """
    from strongroom.release.stores.sqlite import SqliteStore  # the only room with SQLAlchemy; workers do without

    if least and not witnesses:
        raise UsageError(
            "signatures of witnesses are demanded, and none is named", remedy="Name them: --witness URL=VKEY."
        )
    if enroller is not None:
        check_profile(profile, enroller.anchors)
        anchors = (*anchors, enroller.anchor)
    check_profile(profile, anchors)
    keys = state.load_or_create(directory, root)
    try:
        store = SqliteStore(directory / state.DATABASE)
    except BaseException:
        keys.root.close()
        raise
    try:
        _check_root(store, keys)
        present = Present(anchors, source() if source is not None else Given(known), source)
        broker = Broker(
            store, keys, appraiser=present, owner_keys=owners, keep_days=keep_days, present=present, enroller=enroller
        )
        if witnesses:
            broker.witness(_begin(Witnesses(witnesses, least, log=broker.log, store=store)))
        if sweep_seconds:
            broker.sweep_every(sweep_seconds)
        return broker  # noqa: TRY300 (whatever goes wrong above closes the store)
    except BaseException:
        store.close()
        keys.root.close()
        raise


def _begin(witnesses: Witnesses) -> Witnesses:
    try:
        witnesses.start()
    except BaseException:
        witnesses.close()
        raise
    return witnesses


def _check_root(store: Store, keys: state.BrokerKeys) -> None:
    """A database under another root would open nothing: better to learn it now than from the first worker."""
    stored = store.read(lambda reader: reader.keys())
    kept = [key for key in stored if key.state is not KeyState.DESTROYED]
    if kept:
        KeyRing(keys.root, keys.identity.fingerprint).check(kept[-1])
