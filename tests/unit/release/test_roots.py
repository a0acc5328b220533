import pytest

from strongroom.errors import StoreUnavailable, TokenUnavailable, UsageError
from strongroom.release.roots import FileRoot
from strongroom.release.state import DATABASE, KEYS, ROOT, ROOT_CHECK, load_or_create

SECRET = bytes(range(32))


class Elsewhere:
    """A place outside the directory that holds one root, as a token does."""

    def __init__(self):
        self.held = None
        self.closed = 0

    def __call__(self, make):
        if self.held is None:
            if not make:
                raise TokenUnavailable("this broker's root key is not in the token")
            self.held = FileRoot.generate()
        return Handle(self)


class Handle:
    def __init__(self, place):
        self.place = place

    def wrap(self, secret, context):
        return self.place.held.wrap(secret, context)

    def unwrap(self, wrapped, context):
        return self.place.held.unwrap(wrapped, context)

    def close(self):
        self.place.closed += 1


def test_a_root_opens_what_it_wrapped_under_the_same_context_alone():
    root = FileRoot.generate()
    wrapped = root.wrap(SECRET, b"context")
    assert root.unwrap(wrapped, b"context") == SECRET
    assert root.wrap(SECRET, b"context") != wrapped
    changed = wrapped[:-1] + bytes([wrapped[-1] ^ 1])
    for other, data, context in [
        (root, wrapped, b"another"),
        (root, changed, b"context"),
        (root, wrapped[:27], b"context"),
        (root, b"", b"context"),
        (FileRoot.generate(), wrapped, b"context"),
    ]:
        with pytest.raises(StoreUnavailable, match="root key"):
            other.unwrap(data, context)


def test_a_root_elsewhere_is_made_at_the_first_start_and_lies_in_no_file(tmp_path):
    place = Elsewhere()
    made = load_or_create(tmp_path, place)
    files = {path.name: path.read_bytes() for path in (tmp_path / KEYS).iterdir()}
    assert ROOT not in files
    assert all(place.held.key not in content for content in files.values())
    again = load_or_create(tmp_path, place)
    assert again.identity == made.identity
    assert again.root.unwrap(made.root.wrap(SECRET, b"c"), b"c") == SECRET


def test_a_start_with_another_root_or_none_is_refused_and_makes_none(tmp_path):
    place, other, empty = Elsewhere(), Elsewhere(), Elsewhere()
    load_or_create(tmp_path, place)
    other(True)
    with pytest.raises(StoreUnavailable, match="root key"):
        load_or_create(tmp_path, other)
    assert other.closed == 1
    with pytest.raises(TokenUnavailable, match="not in the token"):
        load_or_create(tmp_path, empty)
    assert empty.held is None
    with pytest.raises(UsageError, match="in a token"):
        load_or_create(tmp_path)


def test_a_root_in_a_file_is_not_left_for_another(tmp_path):
    load_or_create(tmp_path)
    place = Elsewhere()
    with pytest.raises(UsageError, match="in a file"):
        load_or_create(tmp_path, place)
    assert place.held is None
    assert not (tmp_path / KEYS / ROOT_CHECK).exists()


def test_a_database_without_its_keys_gets_no_root(tmp_path):
    (tmp_path / DATABASE).touch()
    place = Elsewhere()
    with pytest.raises(StoreUnavailable, match="keys are missing"):
        load_or_create(tmp_path, place)
    assert place.held is None
