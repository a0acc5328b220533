import pytest

from strongroom.errors import FileUnreadable, StoreUnavailable
from strongroom.receipts.identity import open_identity
from strongroom.release.state import CHALLENGE, DATABASE, KEYS, LOG, ROOT, SIGNING, TOKEN, WRAPPING, load_or_create

FILES = [SIGNING, TOKEN, LOG, WRAPPING, CHALLENGE, ROOT]


def test_keys_are_made_once_and_read_back(tmp_path):
    made = load_or_create(tmp_path / "state")
    again = load_or_create(tmp_path / "state")
    assert again.identity == made.identity
    assert (again.root, again.challenge) == (made.root, made.challenge)
    assert open_identity(made.identity_envelope, made.identity.fingerprint) == made.identity


def test_only_the_broker_reads_its_keys(tmp_path):
    load_or_create(tmp_path / "state")
    assert (tmp_path / "state" / KEYS).stat().st_mode & 0o777 == 0o700
    assert {(tmp_path / "state" / KEYS / name).stat().st_mode & 0o777 for name in FILES} == {0o600}


def test_keys_are_not_shown_where_objects_are_printed(tmp_path):
    made = load_or_create(tmp_path / "state")
    assert made.root.key.hex() not in repr(made)
    assert repr(made.root.key) not in repr(made)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_damaged_or_open_key_file_is_refused(tmp_path, name):
    load_or_create(tmp_path)
    path = tmp_path / KEYS / name
    good = path.read_bytes()
    path.chmod(0o640)
    with pytest.raises(FileUnreadable, match="read by others"):
        load_or_create(tmp_path)
    path.chmod(0o600)
    path.write_bytes(good[:-3] if name in {WRAPPING, CHALLENGE, ROOT} else b"not a key")
    with pytest.raises(FileUnreadable) as refused:
        load_or_create(tmp_path)
    assert name in refused.value.detail
    path.unlink()
    with pytest.raises(FileUnreadable):
        load_or_create(tmp_path)


def test_keys_in_each_others_place_are_refused(tmp_path):
    load_or_create(tmp_path)
    token, signing = tmp_path / KEYS / TOKEN, tmp_path / KEYS / SIGNING
    was = token.read_bytes(), signing.read_bytes()
    token.write_bytes(was[1])
    with pytest.raises(FileUnreadable, match="P-384"):
        load_or_create(tmp_path)
    signing.write_bytes(was[0])
    with pytest.raises(FileUnreadable, match="Ed25519"):
        load_or_create(tmp_path)


def test_a_start_that_was_cut_off_leaves_nothing_that_counts(tmp_path):
    half = tmp_path / f"{KEYS}.unfinished"
    half.mkdir()
    (half / ROOT).write_bytes(b"half")
    made = load_or_create(tmp_path)
    assert len(made.root.key) == 32
    assert not half.exists()


def test_a_database_without_its_keys_gets_no_new_ones(tmp_path):
    (tmp_path / DATABASE).touch()
    with pytest.raises(StoreUnavailable, match="keys are missing"):
        load_or_create(tmp_path)
    assert not (tmp_path / KEYS).exists()


def test_a_state_directory_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "state").touch()
    with pytest.raises(FileUnreadable):
        load_or_create(tmp_path / "state")
