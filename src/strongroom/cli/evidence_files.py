"""Files that hold evidence, collateral, or what others sign for an appraisal.

Knows: where files and folders are. Does not know: what is in them (`appraisal.formats`, `appraisal.pile`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from strongroom.appraisal import formats
from strongroom.appraisal.pile import Pile
from strongroom.appraisal.provenance import open_provenance
from strongroom.appraisal.signed import Known, open_custody, open_references
from strongroom.cli import output
from strongroom.crypto.signatures import PublicKey, public_from_pem
from strongroom.errors import FileUnreadable, SignatureInvalid, Unreadable, UsageError
from strongroom.receipts.receipt import ReceiptDocument
from strongroom.records import codec
from strongroom.records.digest import Digest
from strongroom.records.envelope import Envelope
from strongroom.records.session import WorkerProof

MAX_FILES = 256
S = TypeVar("S")


def read_evidence(path: str) -> formats.Presented:
    """The evidence in a file, parsed but not judged. Raises `Unreadable` errors."""
    data = output.read_file(path)
    if data.lstrip()[:1] == b"{":
        value = codec.parse_json(data)
        kind = value.get("type") if isinstance(value, dict) else None
        if kind == WorkerProof.TYPE:
            return formats.of_bundle(codec.from_json(WorkerProof, value).bundle)
        if kind == ReceiptDocument.TYPE:
            return formats.of_bundle(codec.from_json(ReceiptDocument, value).bundle)
    return formats.read(data)


def read_collateral(paths: Sequence[str], now: int) -> Pile:
    """All collateral in files, and in folders (not below them), to be judged at `now`. Raises `Unreadable` errors.

    A file that is named must hold collateral; in a folder other things may lie beside it.
    """
    pile = Pile(now=now)
    for path in paths:
        if not Path(path).is_dir():
            pile.add(output.read_file(path))
            continue
        files = sorted(found for found in Path(path).iterdir() if found.is_file())
        if len(files) > MAX_FILES:
            raise FileUnreadable(f"{path} holds more than {MAX_FILES} files")
        for file in files:
            with suppress(Unreadable):
                pile.add(output.read_file(file))
    return pile


def read_known(
    references: Sequence[str], custody: Sequence[str], provenance: Sequence[str], signers: Sequence[str]
) -> Known:
    """Signed reference values, custody lists and provenance, each opened with the key among `signers` that signed it."""
    keys = [public_from_pem(output.read_file(path)) for path in signers]
    return Known(
        references=tuple(_open(path, keys, open_references) for path in references),
        custody=tuple(_open(path, keys, open_custody) for path in custody),
        provenance=tuple(_open(path, keys, open_provenance) for path in provenance),
    )


def _open(
    path: str, keys: Sequence[PublicKey], opened: Callable[[Envelope, PublicKey], tuple[Digest, S]]
) -> tuple[Digest, S]:
    envelope = Envelope.from_bytes(output.read_file(path))
    if not keys:
        raise UsageError(f"{path} is signed", remedy="Say by whom with --signer-key PUBLIC-KEY.")
    for key in keys:
        try:
            return opened(envelope, key)
        except SignatureInvalid:
            continue
    raise SignatureInvalid(f"none of the keys given signed {path}")
