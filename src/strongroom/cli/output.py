"""What commands share: files in, text, tables or JSON out, progress on long work.

Knows: the terminal. Does not know: any command.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click

from strongroom.errors import FileUnreadable, UsageError
from strongroom.records.verdict import Check, Status

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document, for programs.")
MAX_FILE = 64 * 1024 * 1024
MARKS = {Status.PASS: "✓", Status.FAIL: "✗", Status.NOT_RUN: "–"}


class Moment(click.ParamType[int]):
    """A moment as Unix seconds, or as ISO 8601 writes it (UTC where no zone is named)."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        if text.isascii() and text.isdigit():
            return int(text)
        try:
            moment = datetime.fromisoformat(text)
        except ValueError:
            self.fail(f"{text[:40]!r} is no moment: write Unix seconds, or 2026-02-05T12:00:00Z", param, ctx)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def iso(moment: int) -> str:
    """A moment as people read it, in UTC; as a number where there is no such year."""
    try:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return str(moment)


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(document, indent=2, ensure_ascii=False))


def read_file(path: str | Path, *, limit: int = MAX_FILE) -> bytes:
    """A whole file, or standard input for `-`. Raises `FileUnreadable`."""
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(limit + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(limit + 1)
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
    if len(data) > limit:
        raise FileUnreadable(f"{path} is larger than {limit} bytes")
    return data


def write_file(path: str | Path, data: bytes, *, mode: int = 0o644) -> None:
    """A new file, whole or not at all; never over one that is there. Raises `UsageError` or `FileUnreadable`."""
    target = Path(path)
    if target.exists():
        raise UsageError(f"{target} is already there", remedy="Choose another name; strongroom overwrites nothing.")
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        part.rename(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise FileUnreadable(f"{target}: {error.strerror}") from None


def require_new(path: str | Path) -> None:
    """That `write_file` can write there, asked before work whose result would have no place.

    Raises `UsageError` or `FileUnreadable`.
    """
    target = Path(path)
    if target.exists():
        raise UsageError(f"{target} is already there", remedy="Choose another name; strongroom overwrites nothing.")
    if not os.access(target.parent, os.W_OK | os.X_OK):
        raise FileUnreadable(f"{target.parent}: not a folder in which files can be made")


def made_folder(path: Path) -> Path:
    """A folder, made if need be, in which files can be made. Raises `FileUnreadable`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileUnreadable(f"{path}: {error.strerror}") from None
    require_new(path / secrets.token_hex(8))
    return path


def table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under headings, aligned by their widest cell."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(heading), *(len(row[i]) for row in cells)]) for i, heading in enumerate(headings)]
    for row in [list(headings), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def checks(found: Sequence[Check], *, all_of_them: bool = True) -> None:
    """Checks as people read them: a mark, the id, the detail."""
    width = max((len(check.id) for check in found), default=0)
    for check in found:
        if all_of_them or check.status is not Status.PASS:
            click.echo(f"  {MARKS[check.status]} {check.id.ljust(width)}  {check.detail}".rstrip())


def checks_json(found: Sequence[Check]) -> list[dict[str, str]]:
    """Checks as programs read them."""
    return [{"id": check.id, "status": check.status.value, "detail": check.detail} for check in found]


class Progress:
    """A bar on a terminal, nothing elsewhere; called with bytes done and bytes in all."""

    WIDTH = 32

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        self._label = label
        self._shown = sys.stderr.isatty() and not quiet
        self._last = -1

    def __call__(self, done: int, total: int) -> None:
        percent = 100 * done // max(total, 1)
        if not self._shown or percent == self._last:
            return
        self._last = percent
        bar = "█" * (self.WIDTH * percent // 100)
        end = "\n" if done >= total else ""
        sys.stderr.write(f"\r{self._label} {bar.ljust(self.WIDTH, '·')} {percent:3d} %{end}")
        sys.stderr.flush()
