"""The source itself: where content passes, nothing is written but through `observe.log`, and there only constants, codes and counts."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import strongroom
from strongroom.observe.table import EVENTS

SOURCE = Path(strongroom.__file__).parent
ROOMS = ("channel", "client", "crypto", "engines", "observe", "receipts", "records", "worker", "workloads", "services")
LOGGING = frozenset({"logging"})
EXCUSED = {
    "observe/log.py": (LOGGING, "the one function"),
    "observe/table.py": (LOGGING, "names the levels"),
    "services/broker.py": (LOGGING, "the broker's own log, outside the TEE: no content passes there"),
    "services/cells.py": (LOGGING, "the broker's"),
    "services/enrolments.py": (LOGGING, "the broker's"),
    "services/witness.py": (LOGGING | {"warning"}, "a witness's"),
    "workloads/job/child.py": (
        frozenset({"print", "print_exc", "stdout", "stderr"}),
        "a job's own words, in its confined process: they go to the file of its messages, which is sealed like an output",
    ),
}
"""What is found in a file all the same, and why it may be."""
WRITERS = {"print", "breakpoint", "warn", "warning", "print_exc", "print_exception", "showwarning", "excepthook"}
STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}


def files() -> list[str]:
    return sorted(path.relative_to(SOURCE).as_posix() for room in ROOMS for path in (SOURCE / room).rglob("*.py"))


def findings(source: str) -> Iterator[str]:
    """What in a source writes, or logs what no list has judged."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names) if any(name.name.split(".")[0] in {"logging", "syslog"} for name in names):
                yield "logging"
            case ast.ImportFrom(module=module) if module and module.split(".")[0] in {"logging", "syslog"}:
                yield "logging"
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in WRITERS:
                yield name
            case ast.Attribute(value=ast.Name(id="sys"), attr=stream) if stream in STREAMS:
                yield stream
            case ast.Call(func=ast.Name(id="log"), args=arguments, keywords=fields):
                yield from _judged(arguments, fields)


def _judged(arguments: list[ast.expr], fields: list[ast.keyword]) -> Iterator[str]:
    """A call of `log`: a constant event of the table, fields of that event, and in them no text that is put together."""
    if len(arguments) != 1 or not isinstance(arguments[0], ast.Constant) or arguments[0].value not in EVENTS:
        yield "an event that is not in the table"
        return
    for one in fields:
        if one.arg not in EVENTS[arguments[0].value].fields:
            yield f"field {one.arg}"
        if any(
            isinstance(node, ast.JoinedStr | ast.BinOp | ast.Subscript | ast.FormattedValue)
            for node in ast.walk(one.value)
        ):
            yield f"field {one.arg} is put together"
        if any(isinstance(node, ast.Name) and node.id in {"str", "repr"} for node in ast.walk(one.value)):
            yield f"field {one.arg} is somebody's text"


@pytest.mark.parametrize("name", files())
def test_where_content_passes_nothing_is_written_but_by_the_list(name):
    expected = EXCUSED[name][0] if name in EXCUSED else frozenset()
    assert set(findings((SOURCE / name).read_text("utf-8"))) == expected


@pytest.mark.parametrize(
    "source",
    [
        "import logging",
        "from logging import getLogger",
        "print(body)",
        "import sys\nsys.stderr.write(body)",
        "warnings.warn(body)",
        "traceback.print_exc()",
        "log(event)",
        "log('chat', text=body)",
        "log('defect', text=body)",
        "log('defect', kind=f'{body}')",
        "log('defect', kind=str(error))",
        "log('defect', kind=body['model'])",
    ],
)
def test_the_walk_finds_what_it_looks_for(source):
    assert list(findings(source))


def test_the_walk_looked_at_what_is_there():
    assert len(files()) > 100
    assert EXCUSED.keys() <= set(files())
