"""Writes the reference pages that must not drift from the code: `python docs/generate.py` (into docs/reference).

    cli.md        every command, as `--help` prints it
    errors.md     every error: code, exit code, meaning, remedy
    checks.md     every check of a verdict, as an appraisal of simulated evidence lists them
    metrics.md    every metric, line of the log and attribute of a span, with what may stand in it
    doctor.md     every check of a host, with its source
    schemas/      a JSON Schema of each record that travels
    openapi/      the HTTP APIs of the broker and of the gateway

Knows: where these facts stand in the code. Does not know: any other page. `tests/docs` holds the pages against `pages()`.
"""

from __future__ import annotations

import ast
import json
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import click

from strongroom import errors
from strongroom.appraisal import appraise, explain, policies
from strongroom.cli.main import COMMANDS, strongroom
from strongroom.launch.doctor import CHECKS as HOST_CHECKS
from strongroom.launch.doctor import PURPOSES
from strongroom.observe import table
from strongroom.records import schema
from strongroom.records.digest import digest_bytes
from strongroom.records.release import PURPOSE_SESSION
from strongroom.records.travelling import TRAVELLING
from strongroom.records.verdict import Check
from strongroom.records.worker import Configuration, Statement
from strongroom.services import gateway_openapi, openapi
from strongroom.tee.anchors import installation_anchor
from strongroom.worker.attester import Attester
from strongroom.worker.keys import WorkerKeys

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
WIDTH = 100
CHECKS: Mapping[str, str] = {
    "tdx.collateral": "what Intel signs about the platform was given",
    "tdx.quote.header": "the quote is of a version, key type and quoting enclave that Intel publishes",
    "tdx.anchor": "the quote's certificate chain ends at a root that the verifier itself was given",
    "tdx.pck.chain": "the platform's certificate (PCK) leads to that root: signatures, roles, validity",
    "tdx.root.crl": "the root's revocation list is signed, current, and does not name the platform CA",
    "tdx.pck.crl": "the platform CA's revocation list is signed, current, and does not name the platform",
    "tdx.pck.extension": "the platform's certificate says which platform it is, in Intel's form",
    "tdx.tcb_info.signer": "who signed the TCB info leads to the same root, in that role, not revoked",
    "tdx.tcb_info.signature": "the TCB info is signed by that signer",
    "tdx.tcb_info.content": "the TCB info parses, and is of TDX",
    "tdx.tcb_info.fresh": "the TCB info holds now: issued, and not yet due for its next update",
    "tdx.tcb_info.fmspc": "the TCB info is for this family of platforms",
    "tdx.tcb_info.pceid": "the TCB info is for this provisioning enclave",
    "tdx.qe_identity.signer": "who signed the quoting enclave's identity leads to the same root, in that role",
    "tdx.qe_identity.signature": "the quoting enclave's identity is signed by that signer",
    "tdx.qe_identity.content": "the quoting enclave's identity parses, and is of the TD quoting enclave",
    "tdx.qe_identity.fresh": "the quoting enclave's identity holds now",
    "tdx.qe.signature": "the platform's key signed the quoting enclave's report",
    "tdx.qe.binding": "that report vouches for the key that signed the quote",
    "tdx.qe.identity": "the quoting enclave is the one that Intel describes",
    "tdx.quote.signature": "the quote is signed by the key that the quoting enclave vouches for",
    "tdx.tcb.platform": "the platform reaches a level that Intel lists; the detail is its status",
    "tdx.tcb.module": "the TDX module reaches a level that Intel lists",
    "tdx.tcb.qe": "the quoting enclave reaches a level that Intel lists",
    "tdx.tcb.current": "of a TD report 1.5: so do both as they are now, after updates since launch",
    "binding.nonce": "the evidence answers the verifier's own nonce",
    "binding.purpose": "the evidence was made for this purpose: a release, one lease's renewal, or a session",
    "binding.report_data": "the hardware signed over this nonce, keyset, statement and purpose",
    "binding.keyset_valid": "the worker's keys have not ended",
    "statement.image": "the measured image is one of the policy's reference values",
    "statement.launch_spec": "the launch specification is the one that was measured at launch",
    "events.replay": "the events that the worker names replay to the measured run-time register",
    "statement.events": "the statement says what those events say: workload, configuration, artifacts, and nothing but artifacts after",
    "policy.workload": "the workload is one that the policy admits",
    "policy.configuration": "the configuration is one that the policy admits",
    "policy.launch_spec": "the launch specification is one that the policy admits",
    "policy.artifacts": "every artifact that was opened, at the start or later, is one that the policy admits",
    "policy.provenance": "a signer whom the policy names says that a builder it names made the image",
    "policy.level": "the level is one that the policy admits",
    "policy.tdx.mrseam": "the TDX module's measurement is admitted",
    "policy.tdx.mrsignerseam": "the TDX module's signer is admitted",
    "policy.tdx.xfam": "the extended features are admitted",
    "policy.tdx.pks": "the PKS bit is as wanted",
    "policy.tdx.kl": "the KL bit is as wanted",
    "policy.tdx.dynamic_platform": "what Intel certified about adding processors is as wanted",
    "policy.tdx.cached_keys": "what Intel certified about cached platform keys is as wanted",
    "policy.tdx.smt": "what Intel certified about sibling threads is as wanted",
    "policy.tdx.tcb_date": "the oldest TCB level that counts is not older than the policy's date",
    "policy.custody.denied": "no custody list that was given denies this machine",
    "policy.custody.allowed": "a custodian whom the policy names allows this machine",
    "policy.custody.site": "the machine stands at a site that the policy admits, as that custodian says",
    "policy.custody.jurisdiction": "and in a jurisdiction that the policy admits",
    "policy.tdx.mrowner": "MROWNER is admitted",
    "policy.tdx.mrownerconfig": "MROWNERCONFIG is admitted",
    "policy.tdx.mr_service_td": "the service TDs are admitted (normally none)",
    "policy.tdx.debug": "the debug bit is as wanted: with it, the host reads all memory",
    "policy.tdx.sept_ve_disable": "the SEPT_VE_DISABLE bit is as wanted: without it, the host can inject faults",
    "policy.tdx.perfmon": "the PERFMON bit is as wanted",
    "policy.tdx.migratable": "the MIGRATABLE bit is as wanted",
    "policy.tdx.reserved_bits": "no attribute bit of unknown meaning is set",
    "policy.tdx.tcb_status": "the merged TCB status is admitted",
    "policy.tdx.advisories": "every security advisory that applies is admitted by name",
    "policy.tdx.tcb_evaluation": "the collateral's evaluation number is not below the policy's floor",
}
"""What each check establishes."""

_BRANCH = re.compile(r"^\s*[│├└─ ]*(?P<name>[A-Z]\w+)(?: +exit \d)? +(?P<meaning>\S.*)$", re.MULTILINE)


def pages() -> dict[str, str]:
    """Every generated file below docs/reference, by its relative path."""
    found = {"cli.md": cli_page(), "errors.md": errors_page(), "checks.md": checks_page(), "interop.md": interop_page()}
    found["openapi/broker.json"] = json.dumps(openapi.description(), indent=2, ensure_ascii=False) + "\n"
    found["openapi/gateway.json"] = json.dumps(gateway_openapi.description(), indent=2, ensure_ascii=False) + "\n"
    found["metrics.md"] = metrics_page()
    found["doctor.md"] = doctor_page()
    return found | {f"schemas/{name}.json": schema_file(kind) for name, kind in TRAVELLING.items()}


def schema_file(kind: type) -> str:
    """One JSON Schema, as text."""
    return json.dumps(schema.schema(kind), indent=2, ensure_ascii=False) + "\n"


# --- the command line -----------------------------------------------------------------------------------------------------

CLI_INTRODUCTION = """\
# The command line

<!-- Written by docs/generate.py; do not edit. -->

Every command takes `--json` and then prints one JSON document; a service prints one line of JSON for each state instead.
What went wrong is said once, with a code and a remedy: see [errors](errors.md).

| exit code | meaning |
|---|---|
| 0 | yes, or done |
| 1 | refused: a verdict |
| 2 | usage |
| 3 | unreadable input |
| 4 | unavailable: nothing is wrong, but it cannot be done now |
"""


def cli_page() -> str:
    """Every command with its help."""
    parts = [CLI_INTRODUCTION]
    for words, command in every_command():
        parts.append(f"{'#' * (len(words) + 1)} {' '.join(words)}\n\n```text\n{help_of(command, words)}\n```\n")
    return "\n".join(parts)


def every_command() -> Iterator[tuple[list[str], click.Command]]:
    """The root, each group and each command, with the words that name it."""
    yield ["strongroom"], strongroom
    for name in sorted(COMMANDS):
        yield from _below(strongroom, name, ["strongroom"])


def _below(group: click.Group, name: str, words: list[str]) -> Iterator[tuple[list[str], click.Command]]:
    command = group.get_command(click.Context(group), name)
    if command is None:
        raise LookupError(name)
    here = [*words, name]
    yield here, command
    if isinstance(command, click.Group):
        for child in command.list_commands(click.Context(command)):
            yield from _below(command, child, here)


def help_of(command: click.Command, words: list[str]) -> str:
    """What `--help` prints, at a fixed width."""
    names = ["-h", "--help"]
    context = click.Context(command, info_name=" ".join(words), terminal_width=WIDTH, help_option_names=names)
    return command.get_help(context)


# --- errors ---------------------------------------------------------------------------------------------------------------


def all_errors(kind: type[errors.StrongroomError] = errors.StrongroomError) -> Iterator[type[errors.StrongroomError]]:
    """Every class of the tree in `strongroom.errors`, parents before children."""
    yield kind
    for child in kind.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from all_errors(child)


ERRORS_INTRODUCTION = """\
# Errors

<!-- Written by docs/generate.py; do not edit. -->

One tree, in `strongroom.errors`; a public verb of strongroom raises nothing else. Codes are stable, sentences are not. With
`--json`, and in the body of an HTTP refusal (`application/problem+json`), an error is `{code, message, detail, remedy}`. An
error may bring a remedy that fits better than the one given here.

| code | exit | class | meaning | what to do |
|---|---|---|---|---|
"""


def errors_page() -> str:
    """The tree of errors as a table."""
    meanings = {found["name"]: found["meaning"] for found in _BRANCH.finditer(errors.__doc__ or "")}
    rows = [
        f"| `{kind.code}` | {kind.exit_code} | `{kind.__name__}` | {meanings.get(kind.__name__, 'the root of all')} "
        f"| {kind.default_remedy} |\n"
        for kind in all_errors()
    ]
    return ERRORS_INTRODUCTION + "".join(rows)


# --- checks ---------------------------------------------------------------------------------------------------------------


CHECKS_INTRODUCTION = """\
# Checks

<!-- Written by docs/generate.py; do not edit. -->

A verdict lists every check as `pass`, `fail` or `not-run`. It accepts only if there are checks and every one is `pass`: a
check that was not run is not a pass. They stand here in the order in which they are made: `tdx.*` ask whether the evidence
is genuine, `binding.*` whether it is for us, `statement.*` and `events.*` whether it is what it says, `policy.*` whether it
is what we want. Where no trust anchor was given at all, one more check, `anchors`, fails.

The first and the last are here those of Intel TDX. The other kinds have theirs, each on a page of its own, with what is not
checked and why: [TDX](kinds/tdx.md), [SGX](kinds/sgx.md), [SEV-SNP](kinds/snp.md), [TPM](kinds/tpm.md), [Nitro](kinds/nitro.md),
[CCA](kinds/cca.md), [Azure](kinds/azure.md), [Google](kinds/google.md); and [event logs](event-logs.md).

| check | passes if | fails usually because |
|---|---|---|
"""


def checks_page() -> str:
    """Every check of a verdict, in the order of the appraisal."""
    found = appraised_checks()
    if {check.id for check in found} != CHECKS.keys():
        raise LookupError(f"checks without or beyond a description: {sorted({c.id for c in found} ^ CHECKS.keys())}")
    rows = [f"| `{check.id}` | {CHECKS[check.id]} | {explain.cause(check)} |\n" for check in found]
    return CHECKS_INTRODUCTION + "".join(rows)


def appraised_checks() -> tuple[Check, ...]:
    """The checks that an appraisal of simulated evidence makes; which ones there are does not depend on its outcome."""
    from strongroom_sim.ca import Installation
    from strongroom_sim.chip import Chip
    from strongroom_sim.launch import mrtd_for, reference_for

    now, nonce, image = 1_800_000_000, bytes(32), digest_bytes(b"an image")
    keys = WorkerKeys.generate(now=now)
    configuration = Configuration("inference", broker=digest_bytes(b"a broker"), settings={}, job=None)
    artifact = digest_bytes(b"an artifact")
    statement = Statement("inference", image, None, (artifact,), configuration.digest)
    policy = policies.template("example", references=[reference_for(image)], artifacts=[artifact], simulated=True)
    with tempfile.TemporaryDirectory() as folder:
        installation = Installation.create(Path(folder) / "installation", now=now)
        chip = Chip(installation, mrtd=mrtd_for(image))
        attester = Attester(chip, lambda: installation.bundle(now), kind="tdx", keyset=keys.keyset, statement=statement)
        bundle = attester.prove(nonce, PURPOSE_SESSION)
        anchor = installation_anchor("tdx", installation.root_pem)
    verdict = appraise(bundle, policy=policy, anchors=[anchor], nonce=nonce, purpose=PURPOSE_SESSION, now=now)
    return verdict.checks


METRICS_INTRODUCTION = """# What may be seen of a worker

<!-- Written by docs/generate.py; do not edit. -->

All of it: what is not on this page cannot be counted, exported or logged by a worker. A value outside of its set is dropped and counted
(`strongroom_dropped_total`). [How to watch a worker](../how-to/watch-a-worker.md).

## Metrics

| metric | kind | labels | buckets, rounding | what |
|---|---|---|---|---|
"""


def metrics_page() -> str:
    """The table of all that may be observed."""
    rows = [
        f"| `{metric.name}` | {metric.kind} | {_code(metric.labels)} | {_coarseness(metric)} | {metric.help} |\n"
        for metric in table.METRICS.values()
    ]
    labels = [
        f"| `{name}` | {'the names that the worker was started with, `other`' if allowed is None else _code(sorted(allowed))} |\n"
        for name, allowed in table.LABELS.items()
    ]
    attributes = [f"| `{name}` | {value} |\n" for name, value in table.SPAN_ATTRIBUTES.items()]
    lines = [
        f"| `{name}` | {_code(event.fields)} | {event.meaning} |\n" for name, event in sorted(table.EVENTS.items())
    ]
    fields = [f"| `{name}` | {meaning} |\n" for name, (_, meaning) in table.FIELDS.items()]
    return "".join(
        (
            METRICS_INTRODUCTION,
            *rows,
            "\n| label | values |\n|---|---|\n",
            *labels,
            "\n## Spans\n\nOne for each request to the model. It begins at a whole second and lasts to an edge of a bucket of",
            " `strongroom_duration_seconds`.\nIts ids are random; no context of a client's goes into it.\n\n",
            "| attribute | value |\n|---|---|\n",
            *attributes,
            "\n## Lines of the log\n\n| line | fields | when |\n|---|---|---|\n",
            *lines,
            "\n| field | what |\n|---|---|\n",
            *fields,
        )
    )


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _coarseness(metric: table.Metric) -> str:
    if metric.edges:
        return f"{', '.join(f'{edge:g}' for edge in metric.edges)} {metric.unit}"
    return f"up to a multiple of {metric.grain}" if metric.grain > 1 else ""


DOCTOR_INTRODUCTION = """\
# Checks of a host

<!-- Written by docs/generate.py; do not edit. -->

What [`strongroom doctor`](../how-to/check-a-host.md) looks at, in this order. Each is `pass`, `fail` or `unknown`; only `pass` passes.
They are no checks of a verdict: a host speaks for itself here.

"""


def doctor_page() -> str:
    """Every check of a host, as a table, with who asks for it."""
    purposes = [f"- `{name}`: can it {what}\n" for name, what in PURPOSES.items()]
    rows = [
        f"| `{check.id}` | {', '.join(name for name in PURPOSES if name in check.purposes)} | {check.passes_if} "
        f"| {check.source} |\n"
        for check in HOST_CHECKS
    ]
    heading = "\n| check | asked by | passes if | source |\n|---|---|---|---|\n"
    return DOCTOR_INTRODUCTION + "".join(purposes) + heading + "".join(rows)


INTEROP_INTRODUCTION = """# Who reads what whom

Each row is a test in which one program reads what another wrote, real programs on both sides; a row that does not hold fails the
tests. This page is generated from their marks.

| what | written by | read by | test |
|---|---|---|---|
"""


def interop_page() -> str:
    """The table of tests that are marked `interop(format, writer, reader)`."""
    rows = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef):
                rows += [(*mark, node.name, path.relative_to(ROOT)) for mark in _interop_marks(node)]
    lines = [
        f"| {what} | {writer} | {reader} | [`{name}`](../../{path.as_posix()}) |\n"
        for what, writer, reader, name, path in sorted(rows)
    ]
    return INTEROP_INTRODUCTION + "".join(lines)


def _interop_marks(function: ast.FunctionDef) -> Iterator[tuple[str, str, str]]:
    for decorator in function.decorator_list:
        if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.interop":
            what, writer, reader = (ast.literal_eval(argument) for argument in decorator.args)
            yield what, writer, reader


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        path = REFERENCE / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
