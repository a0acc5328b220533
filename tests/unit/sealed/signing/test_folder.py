"""Plain folders: what is signed of them, and each difference that is refused. Peer: model-signing's own walk."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from model_signing import hashing as peer

from strongroom.errors import FileUnreadable, SignatureInvalid, UsageError
from strongroom.sealed.signing import GIT_PLACES, SignedFiles
from strongroom.sealed.signing import folder as folders
from strongroom.sealed.signing.folder import compare, describe, path_inside

CONTENT = {"a.bin": bytes(range(256)) * 9, "sub/b": b"hello", "sub/deep/c": b"", "a/b": b"1", "a.b": b"2"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "model")


def write(folder: Path) -> Path:
    for path, data in CONTENT.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def peers(folder: Path, config: peer.Config) -> dict[str, str]:
    return {rd.identifier: rd.digest.digest_hex for rd in config.hash(folder).resource_descriptors()}


def test_what_is_signed_is_what_the_peer_would_sign(folder: Path):
    described = describe(folder)
    assert described.name == "model"
    assert described.digests == peers(folder, peer.Config())
    compare(folder, described)


@pytest.mark.parametrize("algorithm", ["sha256", "blake2", "blake3"])
def test_every_hash_of_the_peer_is_compared(folder: Path, algorithm: Any):
    config = peer.Config().use_file_serialization(hashing_algorithm=algorithm)
    signed = SignedFiles("model", {"blake2": "blake2b"}.get(algorithm, algorithm), peers(folder, config))
    compare(folder, signed)
    (folder / "a.bin").write_bytes(CONTENT["a.bin"][:-1] + b"\0")
    with pytest.raises(SignatureInvalid, match="changed"):
        compare(folder, signed)


@pytest.mark.parametrize("size", [1, 7, 1000, 2304, 5000])
def test_shards_of_the_peer_are_compared(folder: Path, size: int):
    (folder / "sub/deep/c").unlink()
    signed = SignedFiles("model", "sha256", peers(folder, peer.Config().use_shard_serialization(shard_size=size)), size)
    compare(folder, signed)
    for change in (b"", b"\0"):
        (folder / "a.bin").write_bytes(CONTENT["a.bin"][:-1] + change)
        with pytest.raises(SignatureInvalid):
            compare(folder, signed)


def test_an_empty_file_cannot_hide_beside_shards(folder: Path):
    signed = SignedFiles("model", "sha256", peers(folder, peer.Config().use_shard_serialization()), 1_000_000_000)
    with pytest.raises(SignatureInvalid, match="empty files") as refused:
        compare(folder, signed)
    assert "sub/deep/c" in refused.value.detail
    compare(folder, signed, ignored=["sub/deep"])


def test_shards_without_number_are_refused_before_they_are_counted(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folders, "MAX_SHARDS", 100)
    (folder / "sub/deep/c").unlink()
    with pytest.raises(SignatureInvalid, match="more than 100"):
        compare(folder, SignedFiles("model", "sha256", {"a.bin:0:1": "00"}, 1))


def flip(folder: Path) -> None:
    (folder / "sub/b").write_bytes(b"hellp")


CHANGES: dict[str, Callable[[Path], Any]] = {
    "a flipped bit": flip,
    "a missing file": lambda folder: (folder / "a.b").unlink(),
    "another file": lambda folder: (folder / "sub/new").write_bytes(b""),
    "a file of git": lambda folder: (folder / ".gitignore").write_bytes(b""),
    "a longer file": lambda folder: (folder / "a.b").write_bytes(b"22"),
    "a file moved": lambda folder: (folder / "a.b").rename(folder / "a.c"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_every_difference_is_refused(folder: Path, change: Any):
    signed = describe(folder)
    change(folder)
    with pytest.raises(SignatureInvalid) as refused:
        compare(folder, signed)
    assert refused.value.detail


def test_many_differences_name_a_few(folder: Path):
    signed = describe(folder)
    for number in range(9):
        (folder / f"new{number}").write_bytes(b"")
    with pytest.raises(SignatureInvalid) as refused:
        compare(folder, signed)
    assert refused.value.detail.endswith("and 4 more")


def test_what_is_left_out_is_not_looked_at(folder: Path):
    (folder / ".git").mkdir()
    (folder / ".git/config").write_bytes(b"1")
    (folder / ".git/link").symlink_to("nowhere")
    signed = describe(folder, ignored=GIT_PLACES | {"sub"})
    assert set(signed.digests) == {"a.bin", "a/b", "a.b"}
    (folder / ".git/config").write_bytes(b"2")
    flip(folder)
    compare(folder, signed)
    (folder / "subway").write_bytes(b"")
    with pytest.raises(SignatureInvalid):
        compare(folder, signed)
    compare(folder, signed, ignored=["subway"])


def test_unsigned_files_may_stand_beside_where_the_reader_says_so(folder: Path):
    signed = describe(folder)
    (folder / "new").write_bytes(b"")
    compare(folder, signed, only_signed=True)
    (folder / "a.b").unlink()
    with pytest.raises(SignatureInvalid, match="missing"):
        compare(folder, signed, only_signed=True)


def test_links_are_refused_unless_the_caller_admits_links_to_files(folder: Path, tmp_path: Path):
    (tmp_path / "elsewhere").write_bytes(b"linked")
    (folder / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="is a link"):
        describe(folder)
    signed = describe(folder, links=True)
    assert signed.links
    assert signed.digests == peers(folder, peer.Config().set_allow_symlinks(True))
    compare(folder, signed, links=True)
    with pytest.raises(UsageError, match="is a link"):
        compare(folder, signed)
    (folder / "folder").symlink_to(folder / "sub")
    with pytest.raises(UsageError, match="not a plain file"):
        compare(folder, signed, links=True)


def test_what_is_no_file_is_refused(folder: Path):
    os.mkfifo(folder / "pipe")
    with pytest.raises(UsageError, match="not a plain file"):
        describe(folder)


def test_a_broken_link_and_a_missing_folder_are_unreadable(folder: Path):
    (folder / "link").symlink_to("nowhere")
    for act in (lambda: describe(folder, links=True), lambda: describe(folder / "none")):
        with pytest.raises(FileUnreadable):
            act()


def test_names_that_no_statement_holds_are_refused(folder: Path):
    (folder / "back\\slash").write_bytes(b"")
    with pytest.raises(UsageError, match="name"):
        describe(folder)


def test_an_empty_folder_is_not_signed(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no file"):
        describe(tmp_path / "empty")


def test_a_single_file_is_signed_as_the_peer_signs_it(folder: Path):
    signed = describe(folder / "a.bin")
    assert signed.digests == peers(folder / "a.bin", peer.Config())
    compare(folder / "a.bin", signed)
    with pytest.raises(SignatureInvalid):
        compare(folder / "a.b", signed)
    with pytest.raises(SignatureInvalid):
        compare(folder, signed)


def test_too_many_files_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(folders, "MAX_FILES", 3)
    with pytest.raises(UsageError, match="more than 3"):
        describe(folder)


def test_progress_ends_at_the_total(folder: Path):
    told: list[tuple[int, int]] = []
    describe(folder, progress=lambda done, total: told.append((done, total)))
    total = sum(map(len, CONTENT.values()))
    assert told[-1] == (total, total)
    assert all(done <= total for done, _ in told)


def test_where_a_bundle_lies(folder: Path, tmp_path: Path):
    assert path_inside(folder, folder / "sub" / ".." / "model.sig") == "model.sig"
    assert path_inside(folder, tmp_path / "model.sig") is None
    assert path_inside(folder, folder) is None


@settings(max_examples=40, deadline=None)
@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=4), shard=st.integers(1, 17))
def test_shards_cut_files_as_the_peer_does(sizes: list[int], shard: int, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("model")
    for number, size in enumerate(sizes):
        (folder / str(number)).write_bytes(os.urandom(size))
    found = {str(number): (folder / str(number), size) for number, size in enumerate(sizes) if size}
    names = {part.name for part in folders._parts(found, shard)}
    assert names == set(peers(folder, peer.Config().use_shard_serialization(shard_size=shard)))
