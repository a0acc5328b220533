"""Statements: what is written is read, and whatever else is read is refused by our own error."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strongroom.errors import MalformedArtifact
from strongroom.records.artifact import is_plain_path
from strongroom.sealed.signing import SignedFiles
from strongroom.sealed.signing.statement import _root, read_statement, write_statement

DIGITS = {"sha256": 64, "blake3": 64, "blake2b": 128}
paths = st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=20).filter(is_plain_path)


@st.composite
def statements(draw: st.DrawFn) -> SignedFiles:
    algorithm = draw(st.sampled_from(sorted(DIGITS)))
    digest = st.text("0123456789abcdef", min_size=DIGITS[algorithm], max_size=DIGITS[algorithm])
    digests = draw(st.dictionaries(paths, digest, min_size=1, max_size=5))
    ignored = tuple(sorted(draw(st.sets(paths, max_size=3))))
    return SignedFiles(draw(paths), algorithm, digests, None, ignored, draw(st.booleans()))


@settings(max_examples=100, deadline=None)
@given(files=statements())
def test_what_is_written_is_read(files: SignedFiles):
    again = read_statement(write_statement(files))
    assert again == files
    assert (again.ignored, again.links) == (files.ignored, files.links)


@settings(max_examples=200, deadline=None)
@given(
    payload=st.binary(max_size=200)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["_type", "subject", "predicate", "predicateType", "name"]), inner, max_size=4
            )
        ),
        max_leaves=12,
    ).map(lambda value: json.dumps(value).encode())
)
def test_whatever_comes_is_read_or_malformed(payload: bytes):
    with pytest.raises(MalformedArtifact):
        read_statement(payload)


def sharded(change: Any = lambda _: None) -> bytes:
    """A statement by shards as the peer writes it: numbers are floats."""
    names = ["a:0:1000", "a:1000:1500", "b/c:0:3"]
    digests = [f"{number:064x}" for number in range(3)]
    statement = json.loads(write_statement(SignedFiles("little", "sha256", {"x": "00" * 32})))
    statement["subject"][0]["digest"]["sha256"] = _root(digests)
    statement["predicate"]["serialization"] = {
        "method": "shards",
        "shard_size": 1000.0,
        "hash_type": "sha256",
        "allow_symlinks": False,
    }
    statement["predicate"]["resources"] = [
        {"name": name, "digest": digest, "algorithm": "sha256-sharded-1000"}
        for name, digest in zip(names, digests, strict=True)
    ]
    change(statement["predicate"])
    return json.dumps(statement).encode()


def test_a_statement_by_shards_is_read():
    found = read_statement(sharded())
    assert (found.shard_bytes, list(found.digests)) == (1000, ["a:0:1000", "a:1000:1500", "b/c:0:3"])
    assert found != read_statement(write_statement(SignedFiles("little", "sha256", dict(found.digests))))


def rename(name: str) -> Any:
    return lambda predicate: predicate["resources"][0].update(name=name)


def size(value: Any) -> Any:
    return lambda predicate: predicate["serialization"].update(shard_size=value)


SHARDS = {
    "no number": rename("a"),
    "one number": rename("a:0"),
    "a colon in the path": rename("a:b:0:1000"),
    "a negative start": rename("a:-1:5"),
    "a spelled-out zero": rename("a:00:1000"),
    "an empty shard": rename("a:5:5"),
    "a shard that ends before it starts": rename("a:9:5"),
    "a shard that is too long": rename("a:0:1001"),
    "no path": rename(":0:1000"),
    "a path that climbs": rename("../a:0:1000"),
    "no size": lambda predicate: predicate["serialization"].pop("shard_size"),
    "another size": size(999.0),
    "a size of zero": size(0),
    "a size that is no number": size("1000"),
    "a size that is true": size(True),
    "half a byte": size(1000.5),
    "another algorithm": lambda predicate: predicate["resources"][0].update(algorithm="sha256"),
    "files": lambda predicate: predicate["serialization"].update(method="files"),
    "something else": lambda predicate: predicate["serialization"].update(method="tensors"),
}


@pytest.mark.parametrize("change", SHARDS.values(), ids=SHARDS.keys())
def test_shards_of_another_shape_are_malformed(change: Any):
    with pytest.raises(MalformedArtifact):
        read_statement(sharded(change))


def serialization(**members: Any) -> bytes:
    statement = json.loads(write_statement(SignedFiles("little", "sha256", {"x": "00" * 32})))
    statement["predicate"]["serialization"].update(members)
    return json.dumps(statement).encode()


@pytest.mark.parametrize(
    "members",
    [
        {"ignore_paths": "x"},
        {"ignore_paths": [1]},
        {"ignore_paths": None},
        {"allow_symlinks": 1},
        {"hash_type": []},
        {"hash_type": "sha384"},
    ],
    ids=str,
)
def test_a_serialization_of_another_shape_is_malformed(members: Any):
    with pytest.raises(MalformedArtifact):
        read_statement(serialization(**members))


def test_a_path_left_out_lies_below_the_folder_or_leaves_nothing_out():
    found = read_statement(serialization(ignore_paths=[".git", ".", "/etc", "../x", "a//b", "", "docs/drafts"]))
    assert found.ignored == (".git", "docs/drafts")
