"""What a model signature says: an in-toto statement about a set of files, or about the shards of files.

Specification: the layout that model-signing 1.1 writes and reads (predicate `https://model_signing/signature/v1.0`);
in-toto attestation, Statement v1.

Knows: names, digests, their order, the root digest over them. Does not know: where files lie, or who signed.
Not covered: writing statements about shards, which are only read; the predicates before v1.0.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import rfc8785

from strongroom.errors import MalformedArtifact, MalformedRecord
from strongroom.records import codec
from strongroom.records.artifact import SealedFile, is_plain_path

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://model_signing/signature/v1.0"
MAX_STATEMENT_BYTES = 4 * 1024 * 1024
GIT_PLACES = frozenset({".git", ".gitattributes", ".github", ".gitignore"})
ITSELF = "."
"""The name under which a single file, signed without a folder, stands in its own statement."""

_HEX_DIGITS = {"sha256": 64, "blake3": 64, "blake2b": 128}
_HEX = re.compile(r"[0-9a-f]+")
_SHARD = re.compile(r"([^:]+):(0|[1-9][0-9]{0,15}):([1-9][0-9]{0,15})")
_WHOLE = re.compile(r"([1-9][0-9]{0,15})\.0")


@dataclass(frozen=True, slots=True)
class SignedFiles:
    """Of a thing called `name`: each path and its digest (hexadecimal) under `algorithm` (sha256, blake2b or blake3).

    With `shard_bytes`, names are `path:start:end` and digests those of such parts, each as long as that or the last of
    its file. What lies at or below a path of `ignored` was left out of account; links to files count as the files if
    `links`. These two say how the files were looked at, so statements that differ in nothing else are equal.
    """

    name: str
    algorithm: str
    digests: Mapping[str, str]
    shard_bytes: int | None = None
    ignored: tuple[str, ...] = field(default=(), compare=False)
    links: bool = field(default=False, compare=False)


def about_files(name: str, files: Iterable[SealedFile]) -> SignedFiles:
    """What the inner signature of an artifact says: SHA-256 of each plaintext, as the stock command line expects it.

    The stock verifier leaves git's files at the top of a folder out of account, so nothing is said about them here.
    """
    stated = {f.path: f.sha256.removeprefix("sha256:") for f in files if f.path.split("/", 1)[0] not in GIT_PLACES}
    return SignedFiles(name, "sha256", stated)


def write_statement(files: SignedFiles) -> bytes:
    """The statement in canonical JSON."""
    return rfc8785.dumps(_to_json(files))


def read_statement(payload: bytes) -> SignedFiles:
    """What a signed payload says. Raises `MalformedArtifact`."""
    try:
        return _from_json(codec.parse_json(payload, limit=MAX_STATEMENT_BYTES, read_float=_whole))
    except (MalformedRecord, KeyError, TypeError, AttributeError):
        raise MalformedArtifact(
            "a model signature holds, but what it signs is not a statement of this version"
        ) from None


def _to_json(files: SignedFiles) -> dict[str, Any]:
    # Sorted by the parts of the path, as pathlib does: `a/b` comes before `a.b`.
    ordered = sorted(files.digests.items(), key=lambda item: item[0].split("/"))
    serialization = {"method": "files", "hash_type": files.algorithm, "allow_symlinks": files.links}
    if files.ignored:
        serialization["ignore_paths"] = list(files.ignored)
    return {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": files.name, "digest": {"sha256": _root(digest for _, digest in ordered)}}],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "serialization": serialization,
            "resources": [{"name": path, "algorithm": files.algorithm, "digest": digest} for path, digest in ordered],
        },
    }


def _from_json(statement: dict[str, Any]) -> SignedFiles:
    _expect(statement["_type"] == STATEMENT_TYPE and statement["predicateType"] == PREDICATE_TYPE)
    subjects = statement["subject"]
    _expect(isinstance(subjects, list) and len(subjects) == 1)
    serialization, resources = statement["predicate"]["serialization"], statement["predicate"]["resources"]
    algorithm, shard_bytes = serialization["hash_type"], _shard_bytes(serialization)
    _expect(isinstance(algorithm, str) and isinstance(resources, list) and bool(resources))
    digits = _HEX_DIGITS[algorithm]
    stated = algorithm if shard_bytes is None else f"{algorithm}-sharded-{shard_bytes}"
    digests: dict[str, str] = {}
    for resource in resources:
        name, digest = resource["name"], resource["digest"]
        _expect(_is_name(name, shard_bytes) and name not in digests and resource["algorithm"] == stated)
        _expect(len(digest) == digits and _HEX.fullmatch(digest) is not None)
        digests[name] = digest
    name, root = subjects[0]["name"], subjects[0]["digest"]["sha256"]
    _expect(isinstance(name, str) and root == _root(digests.values()))
    ignored, links = _ignored(serialization.get("ignore_paths", [])), serialization.get("allow_symlinks", False)
    _expect(isinstance(links, bool))
    return SignedFiles(name, algorithm, digests, shard_bytes, ignored, links)


def _shard_bytes(serialization: dict[str, Any]) -> int | None:
    if serialization["method"] == "files":
        return None
    size = serialization["shard_size"]
    _expect(serialization["method"] == "shards" and type(size) is int and size > 0)
    return int(size)


def _is_name(name: str, shard_bytes: int | None) -> bool:
    if shard_bytes is not None:
        found = _SHARD.fullmatch(name)
        if found is None or not 0 < int(found[3]) - int(found[2]) <= shard_bytes:
            return False
        name = found[1]
    return name == ITSELF or is_plain_path(name)


def _ignored(paths: Any) -> tuple[str, ...]:
    """What was left out. A path that names no place below the folder leaves nothing out: that is the stricter reading."""
    _expect(isinstance(paths, list) and all(isinstance(path, str) for path in paths))
    return tuple(sorted({path for path in paths if is_plain_path(path)}))


def _root(digests: Iterable[str]) -> str:
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def _whole(text: str) -> int:
    """Numbers of a protobuf structure are floats, also where they count bytes."""
    found = _WHOLE.fullmatch(text)
    if found is None:
        raise MalformedRecord("a number that counts nothing")
    return int(found[1])


def _expect(condition: bool) -> None:  # noqa: FBT001 (the condition is the point)
    if not condition:
        raise MalformedRecord("another type, version or shape")
