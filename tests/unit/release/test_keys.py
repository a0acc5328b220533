import dataclasses

import pytest

from strongroom.crypto.hpke import ReleaseKey
from strongroom.errors import ReleaseRefused, StoreUnavailable
from strongroom.records.digest import digest_bytes
from strongroom.records.release import Edition
from strongroom.release.keys import KeyRing, open_at_broker, seal_to_broker
from strongroom.release.roots import FileRoot
from strongroom.release.wire import WrapContext

BROKER, OTHER = digest_bytes(b"broker"), digest_bytes(b"another broker")
RING = KeyRing(FileRoot(b"r" * 32), BROKER)
KEY = RING.create("key", "policy", now=0)
DATA_KEY = bytes(range(32))


def test_a_data_key_is_wrapped_and_unwrapped():
    wrapped = RING.wrap(KEY, Edition.first(b"artifact"), DATA_KEY)
    assert (wrapped.key_id, wrapped.key_version, wrapped.broker, wrapped.artifact_id) == ("key", 1, BROKER, b"artifact")
    assert DATA_KEY not in wrapped.ciphertext
    assert RING.unwrap(KEY, wrapped) == DATA_KEY


def test_two_wrappings_of_one_key_differ():
    assert (
        RING.wrap(KEY, Edition.first(b"a"), DATA_KEY).ciphertext
        != RING.wrap(KEY, Edition.first(b"a"), DATA_KEY).ciphertext
    )


@pytest.mark.parametrize(
    "change",
    [
        {"key_id": "other"},
        {"key_version": 2},
        {"of": Edition.first(b"other")},
        {"of": Edition(b"artifact", b"artifact", 2)},
        {"of": Edition(b"artifact", b"other", 1)},
    ],
)
def test_a_wrapped_key_holds_only_where_it_was_wrapped_for(change):
    wrapped = dataclasses.replace(RING.wrap(KEY, Edition.first(b"artifact"), DATA_KEY), **change)
    with pytest.raises(ReleaseRefused):
        RING.unwrap(KEY, wrapped)


def test_a_wrapped_key_of_another_broker_does_not_open():
    elsewhere = KeyRing(FileRoot(b"r" * 32), OTHER).wrap(KEY, Edition.first(b"artifact"), DATA_KEY)
    with pytest.raises(ReleaseRefused):
        RING.unwrap(KEY, dataclasses.replace(elsewhere, broker=BROKER))


@pytest.mark.parametrize("change", [{"id": "other"}, {"version": 2}, {"wrapped": b"w" * 60}, {"wrapped": b""}])
def test_a_stored_key_moved_to_another_row_is_noticed(change):
    wrapped = RING.wrap(KEY, Edition.first(b"artifact"), DATA_KEY)
    with pytest.raises(StoreUnavailable, match="root key"):
        RING.unwrap(dataclasses.replace(KEY, **change), wrapped)


@pytest.mark.parametrize(
    ("artifact_id", "data_key"), [(b"", DATA_KEY), (b"a" * 65, DATA_KEY), (b"a", b""), (b"a", b"k" * 16)]
)
def test_what_is_no_data_key_of_an_artifact_is_not_wrapped(artifact_id, data_key):
    with pytest.raises(ReleaseRefused):
        RING.wrap(KEY, Edition.first(artifact_id), data_key)


def test_a_data_key_travels_sealed_to_one_key_of_one_broker():
    private = ReleaseKey.generate()
    context = WrapContext(BROKER, "key", Edition.first(b"artifact"))
    request = seal_to_broker(private.public, DATA_KEY, context)
    assert open_at_broker(private, request, context) == DATA_KEY
    for other in (
        WrapContext(OTHER, "key", Edition.first(b"artifact")),
        WrapContext(BROKER, "other", Edition.first(b"artifact")),
        WrapContext(BROKER, "key", Edition.first(b"other")),
    ):
        with pytest.raises(ReleaseRefused):
            open_at_broker(private, request, other)
    for broken in ({"encapsulation": b""}, {"ciphertext": b""}, {"ciphertext": request.ciphertext[:-1]}):
        with pytest.raises(ReleaseRefused):
            open_at_broker(private, dataclasses.replace(request, **broken), context)


def test_a_stored_key_does_not_show_the_key():
    assert RING._kek(KEY) not in KEY.wrapped
    assert RING._kek(KEY).hex() not in repr(KEY)
