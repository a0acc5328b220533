"""JSON texts with one thing changed, whatever they say.

Knows: JSON, and which values look like times, words and hexadecimal. Does not know: what a document means.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from strongroom_sim.mutants.mutant import TRIES, other, other_number

MAX_SAFE = 2**53 - 1
MONTH = 30 * 86_400
Path = tuple[str | int, ...]


def change_json(chance: random.Random, text: str, now: int, words: Sequence[str]) -> tuple[str, str]:
    """The text with one change, and where. `words` are strings that may stand for others."""
    document = json.loads(text)
    for _ in range(TRIES):
        changed = copy.deepcopy(document)
        path = chance.choice(_paths(changed))
        match chance.randrange(8):
            case 0:
                where, made = _structure(chance, changed, path)
            case 1:
                _put(changed, path, chance.choice([None, True, [], {}, "", 0, -1, 1.5, "0", MAX_SAFE + 1, [[]]]))
                where, made = "type", _text(changed)
            case 2:
                where, made = _spelling(chance, document)
            case _:
                _put(changed, path, _other(chance, _get(changed, path), now, words))
                where, made = "value", _text(changed)
        if made != text:
            return made, f"{where} {'.'.join('#' if isinstance(step, int) else step for step in path)}"
    return text + " ", "spelling"


def strict(text: str) -> Any:
    """The value, or None where a member occurs twice, or where it is no JSON."""

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=members)
    except ValueError:
        return None


def _text(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def _paths(value: Any, path: Path = ()) -> list[Path]:
    found: list[Path] = [path] if path else []
    if isinstance(value, dict):
        for name, member in value.items():
            found += _paths(member, (*path, name))
    if isinstance(value, list):
        for place, member in enumerate(value):
            found += _paths(member, (*path, place))
    return found


def _get(value: Any, path: Path) -> Any:
    for step in path:
        value = value[step]
    return value


def _put(value: Any, path: Path, new: Any) -> None:
    _get(value, path[:-1])[path[-1]] = new


def _structure(chance: random.Random, value: Any, path: Path) -> tuple[str, str]:
    """A member or an item dropped, added, repeated or moved."""
    parent: Any = _get(value, path[:-1])
    match chance.randrange(3):
        case 0:
            del parent[path[-1]]
        case 1 if isinstance(parent, list):
            parent.insert(chance.randrange(len(parent) + 1), copy.deepcopy(_get(value, path)))
        case 1:
            parent[f"x{chance.randrange(100)}"] = parent[path[-1]]
        case _ if isinstance(parent, list):
            chance.shuffle(parent)
        case _:
            parent[f"{path[-1]} "] = parent.pop(path[-1])
    return "structure", _text(value)


def _spelling(chance: random.Random, value: Any) -> tuple[str, str]:
    """The same value written otherwise, or something that looks like it."""
    text = _text(value)
    match chance.randrange(6):
        case 0:
            return "spelling", json.dumps(value, indent=chance.randrange(1, 4))
        case 1:
            return "spelling", text[:-1] + "," + text[1:]  # every member twice
        case 2:
            return "spelling", text.replace("a", "\\u0061")
        case 3:
            return "spelling", text + chance.choice(["\n", " ", "{}", "\0", ","])
        case 4:
            return "spelling", "\ufeff" + text
        case _:
            return "spelling", text.replace(":", ": ")


def _other(chance: random.Random, value: Any, now: int, words: Sequence[str]) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return other_number(chance, value, chance.choice([0xFF, 0xFFFF, MAX_SAFE]))
    if isinstance(value, str):
        return _other_text(chance, value, now, words)
    return chance.choice([[], {}, None, [value]])


def _other_text(chance: random.Random, value: str, now: int, words: Sequence[str]) -> str:
    if value.endswith("Z") and chance.randrange(4):
        at = now + chance.choice([-MONTH, -1, 0, 1, MONTH, chance.randrange(-MONTH, MONTH)])
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if value and len(value) % 2 == 0 and all(letter in "0123456789abcdefABCDEF" for letter in value):
        return other(chance, bytes.fromhex(value)).hex().upper() if chance.randrange(4) else value.swapcase()
    return chance.choice([*words, value[:-1], value + "x", value.swapcase(), "", "é", "\ud800"])
