"""`strongroom launch`: a machine's life, from preflight to the receipt of its wiping."""

from __future__ import annotations

import json
import os
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from strongroom.cli import output
from strongroom.cli.launch_observe import observe
from strongroom.cli.launch_screen import Lines, Screen
from strongroom.cli.measure import load_spec
from strongroom.cli.output import F
from strongroom.cli.remote import broker_client, digest, signed_options
from strongroom.crypto.signatures import (
    SigningKey,
    fingerprint,
    generate_p256,
    private_from_pem,
    private_to_pem,
    public_from_der,
)
from strongroom.errors import (
    FileUnreadable,
    LeaseEnded,
    NotAuthorised,
    NotPermitted,
    ReleaseRefused,
    StrongroomError,
    UsageError,
)
from strongroom.records import codec
from strongroom.records.launched import State, WipeDocument, WipeReceipt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from strongroom.launch.life.attest import Attest
    from strongroom.launch.life.launcher import Launcher, Status
    from strongroom.launch.life.wipe import Revoke
    from strongroom.records.launch import LaunchSpec

FOLDER = "strongroom/launches"
"""Below $XDG_STATE_HOME, or ~/.local/state: one folder a launch, by its specification's name."""
KEY = "launcher.pem"
LAST_PORT = 65535


@click.group("launch", short_help="a machine's life: preflight, boot, attest, ready, drain, wipe")
def launch_command() -> None:
    """Bring up the machine that a launch specification describes, and take it down with a receipt."""


launch_command.add_command(observe)


def _folders() -> Path:
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / FOLDER


def _state_options(command: F) -> F:
    state = click.option(
        "--state",
        type=click.Path(file_okay=False, path_type=Path),
        help=f"The launch's own folder; else {FOLDER}/NAME below $XDG_STATE_HOME.",
    )
    key = click.option(
        "--key",
        type=click.Path(dir_okay=False, path_type=Path),
        help="The launcher's private key, which signs wipe receipts; else one is made in the folder.",
    )
    spec = click.argument("path", metavar="SPEC", type=click.Path(dir_okay=False, path_type=Path))
    return spec(state(key(command)))


def _attest_options(command: F) -> F:
    options = (
        click.option("--url", metavar="URL", help="Where the worker inside answers; else the first forwarded port."),
        click.option(
            "--wait", "prove_seconds", type=click.FloatRange(0), default=300.0, show_default=True, help="For a quote."
        ),
        click.option(
            "--policy", metavar="FILE", help="Your policy; its reference values are replaced by what is computed."
        ),
        click.option("--owner", metavar="FILE", help="Public key of who signed the policy."),
        signed_options,
        click.option("--anchor", metavar="FILE", help="PEM of an installation root, for simulated TEEs."),
        click.option("--accept-simulated", is_flag=True, help="Go on with a simulated TEE, which protects nothing."),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _revoke_options(command: F) -> F:
    broker = click.option("--broker", metavar="URL", help="The broker, to end the machine's lease when it is wiped.")
    identity = click.option(
        "--identity",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Your private key, as an administrator of the broker who may end leases.",
    )
    drain = click.option(
        "--drain-seconds",
        type=click.FloatRange(0),
        default=20.0,
        show_default=True,
        help="What a guest has to power off.",
    )
    return broker(identity(drain(command)))


_pin_option = click.option(
    "--broker-fingerprint", metavar="DIGEST", help="The broker that must have released the keys."
)


class Forward(click.ParamType[tuple[int, int]]):
    """A port of this host's loopback address, and the guest's behind it: `HOST:GUEST`."""

    name = "HOST:GUEST"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        if isinstance(value, tuple):
            return value
        parts = str(value).split(":")
        if len(parts) != len(("host", "guest")) or not all(part.isascii() and part.isdigit() for part in parts):
            self.fail(f"{str(value)[:40]!r} is not HOST:GUEST, such as 8443:8443", param, ctx)
        host, guest = map(int, parts)
        if not (0 < host <= LAST_PORT and 0 < guest <= LAST_PORT):
            self.fail("a port is between 1 and 65535", param, ctx)
        return host, guest


@launch_command.command("up")
@_state_options
@click.option("--driver", type=click.Choice(["qemu", "libvirt"]), help="Who starts it; qemu, or who did before.")
@click.option(
    "--accelerator",
    type=click.Choice(["auto", "kvm", "tcg"]),
    default="auto",
    show_default=True,
    help="auto: kvm where the CPU's own module is loaded, else tcg.",
)
@click.option("--forward", type=Forward(), multiple=True, help="A port of this host, for the guest's. May be repeated.")
@click.option(
    "--disk",
    "disks",
    type=click.Path(dir_okay=False, path_type=Path),
    multiple=True,
    help="A raw disk, for the specification's in their order; of those that are written, a copy is.",
)
@click.option(
    "--tpm-config",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A swtpm_setup.conf: who certifies the software TPM's endorsement key, so that it can be enrolled.",
)
@click.option("--gpu", "gpus", metavar="ADDRESS", multiple=True, help="A GPU's PCI address.")
@click.option("--vsock-cid", type=click.IntRange(3), help="The guest's address, if it has a vsock.")
@click.option("--until", type=click.Choice(["booted", "attested", "ready"]), default="ready", show_default=True)
@_attest_options
@_pin_option
@_revoke_options
@output.json_option
def up(path: Path, state: Path | None, key: Path | None, *, as_json: bool, **given: Any) -> None:
    """Bring up the machine of SPEC, or pick up where an earlier launcher left it. It runs on when this command ends."""
    spec, until = load_spec(path), State(given["until"])
    folder = state or _folders() / spec.name
    with _launcher(spec, path, folder, key, given, as_json=as_json) as launcher:
        launcher.attest = _attest(given, tuple(launcher.place.ports)) if until is not State.BOOTED else None
        found = launcher.up(until)
        _told(launcher, found, as_json=as_json)


@launch_command.command("attest")
@_state_options
@_attest_options
@_pin_option
@output.json_option
def attest(path: Path, state: Path | None, key: Path | None, *, as_json: bool, **given: Any) -> None:
    """Ask SPEC's running machine for new evidence, and its broker's verdict, now. What it says is kept; a no is FAILED."""
    spec = load_spec(path)
    folder = state or _folders() / spec.name
    with _launcher(spec, path, folder, key, given, as_json=as_json, make_key=False) as launcher:
        launcher.attest = _attest(given, tuple(launcher.place.ports))
        _told(launcher, launcher.reattest(), as_json=as_json)


@launch_command.command("status")
@_state_options
@output.json_option
def status(path: Path, state: Path | None, key: Path | None, *, as_json: bool) -> None:
    """Say where the launch of SPEC stands: the journal's word, and whether its processes are there. Exit 1 unless they are."""
    spec = load_spec(path)
    with _launcher(spec, path, state or _folders() / spec.name, key, {}, as_json=as_json, make_key=False) as launcher:
        found = launcher.status()
        if found.state is None:
            raise UsageError(f"nothing was launched in {launcher.place.state}", remedy="strongroom launch up SPEC")
        _told(launcher, found, as_json=as_json, whole=True)
    if not found.alive:
        raise click.exceptions.Exit(1)


@launch_command.command("down")
@_state_options
@_pin_option
@_revoke_options
@output.json_option
def down(path: Path, state: Path | None, key: Path | None, *, as_json: bool, **given: Any) -> None:
    """End the keys of SPEC's machine, then the machine, then wipe what it leaves; write a signed receipt."""
    spec = load_spec(path)
    folder = state or _folders() / spec.name
    with _launcher(spec, path, folder, key, given, as_json=as_json, make_key=_seen(folder)) as launcher:
        document = launcher.down()
        newest = max(folder.glob("wipe-*.json"))
    receipt = codec.decode(WipeReceipt, document.receipt.payload)
    signer = fingerprint(public_from_der(document.launcher))  # who signed: of an earlier wipe perhaps with another key
    if as_json:
        click.echo(json.dumps({"receipt": str(newest), "launcher": signer, "steps": len(receipt.steps)}))
        return
    _show(receipt)
    click.echo(f"receipt   {newest}\nlauncher  {signer}")


@launch_command.command("list")
@click.option("--folder", type=click.Path(file_okay=False, path_type=Path), help="Where launches have their folders.")
@output.json_option
def list_command(folder: Path | None, *, as_json: bool) -> None:
    """List the launches of this account, by their journals alone."""
    from strongroom.launch.life.journal import NAME, read_entries

    rows: list[tuple[str, str, int, str]] = []
    for place in sorted((folder or _folders()).glob(f"*/{NAME}")):
        try:
            newest = read_entries(place.parent)[0][-1]
        except (StrongroomError, IndexError) as error:
            rows.append((place.parent.name, getattr(error, "code", "empty"), 0, ""))
        else:
            rows.append((place.parent.name, newest.state.value, newest.time, newest.spec))
    if as_json:
        names = ("name", "state", "time", "spec")
        output.print_json({"launches": [dict(zip(names, row, strict=True)) for row in rows]})
    else:
        output.table(("NAME", "STATE", "SINCE", "SPEC"), [(a, b, output.iso(c // 1000), d[:19]) for a, b, c, d in rows])


@launch_command.command("check-wipe")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--launcher", required=True, metavar="DIGEST", help="Fingerprint of the launcher's key, as you know it.")
@output.json_option
def check_wipe(file: Path, launcher: str, *, as_json: bool) -> None:
    """Check the wipe receipt in FILE, offline: its signature, that nothing is left out, and the order."""
    from strongroom.launch.life import wipe

    receipt = wipe.check_wipe(codec.decode(WipeDocument, output.read_file(file)), digest(launcher))
    if as_json:
        output.print_json(codec.to_json(receipt))
        return
    _show(receipt)
    click.echo("the receipt holds")


def _show(receipt: WipeReceipt) -> None:
    rows = [(s.what, s.name or "–", s.how, "" if s.size is None else s.size, s.detail) for s in receipt.steps]
    output.table(("WHAT", "NAME", "HOW", "BYTES", ""), rows)
    for text in receipt.not_shown:
        click.echo(f"not shown: {text}")


def _told(launcher: Launcher, found: Status, *, as_json: bool, whole: bool = False) -> None:
    newest = found.entries[-1]
    if as_json:
        document: dict[str, Any] = {
            "name": launcher.spec.name, "spec": launcher.spec.digest, "state": newest.state.value, "since": newest.time,
            "alive": found.alive, "reason": newest.reason, "folder": str(launcher.place.state),
        }  # fmt: skip
        if whole:
            document["entries"] = [codec.to_json(entry) for entry in found.entries]
        click.echo(json.dumps(document))
        return
    if whole:
        rows = [(e.number, e.state.value, output.iso(e.time // 1000), e.reason, e.evidence[:19]) for e in found.entries]
        output.table(("ENTRY", "STATE", "TIME", "REASON", "EVIDENCE"), rows)
    runs = {True: "runs", False: "has ended", None: "was not started"}[found.alive]
    click.echo(f"{launcher.spec.name}: {newest.state.value}; the machine {runs}; {launcher.place.state}")


@contextmanager
def _launcher(
    spec: LaunchSpec,
    path: Path,
    folder: Path,
    key: Path | None,
    given: dict[str, Any],
    *,
    as_json: bool,
    make_key: bool = True,
) -> Iterator[Launcher]:
    """A launcher from what was said on the command line, and by whom the machine was started before."""
    from strongroom.launch.doctor import machine
    from strongroom.launch.life.drivers import driver
    from strongroom.launch.life.launcher import Launcher, plan_of
    from strongroom.launch.life.preflight import accelerator
    from strongroom.launch.place import Place

    host = machine(Path("/"))
    said, before = given.get("accelerator", "auto"), plan_of(folder)
    ports = dict(given.get("forward", ()))
    if before is None:
        name, kept = "qemu", accelerator(host)
    else:
        name, kept = before.driver, "kvm" if before.accelerator == "kvm" else "tcg"
        ports = ports or {int(ours): guest for ours, guest in before.ports.items()}
    place = Place(
        images=path.resolve().parent, state=folder, accelerator=kept if said == "auto" else said,
        disks=given.get("disks", ()), gpus=given.get("gpus", ()), ports=ports, vsock_cid=given.get("vsock_cid"),
    )  # fmt: skip
    screen = Lines() if as_json else Screen()
    launcher = Launcher(
        spec, place, driver(given.get("driver") or name, tpm_config=given.get("tpm_config")),
        _key(folder, key, make=make_key), host=host, report=screen,
        revoke=_revoke(given), drain_seconds=given.get("drain_seconds", 0.0), prove_seconds=given.get("prove_seconds", 0.0),
    )  # fmt: skip
    try:
        yield launcher
    finally:
        if isinstance(screen, Screen):
            screen.end()


def _seen(path: Path) -> bool:
    """Whether it is there for us; what may not be looked at is said by who opens it."""
    return os.path.exists(path)  # noqa: PTH110 (Path.exists raises where a folder on the way is another's)


def _key(folder: Path, path: Path | None, *, make: bool) -> SigningKey:
    """The launcher's key: the one that was named, or the folder's own, made where there is none."""
    own = folder / KEY
    if path is not None or _seen(own):
        return private_from_pem(output.read_file(path or own))
    made = generate_p256()
    if make:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise FileUnreadable(f"{folder}: {error.strerror}") from None
        output.write_file(own, private_to_pem(made), mode=0o600)
    return made


def _attest(given: dict[str, Any], ports: tuple[int, ...]) -> Attest:
    """How the machine is asked: its address, the policy, the broker's fingerprint. Raises `UsageError` where one is missing."""
    from strongroom.cli.talk import trust_of
    from strongroom.launch.life.attest import WorkerAttest

    url = given["url"] or next((f"http://127.0.0.1:{port}" for port in ports), None)
    for name, value in (("--policy", given["policy"]), ("--broker-fingerprint", given["broker_fingerprint"])):
        if value is None:
            raise UsageError(
                f"without {name} nobody can say whether the machine is ready", remedy="Or say --until booted."
            )
    if url is None:
        raise UsageError(
            "where does the worker answer?", remedy="Give --forward HOST:GUEST or --url, or say --until booted."
        )
    names = ("policy", "owner", "anchor", "broker_fingerprint", "enrollers", "accept_simulated")
    signed = ("references", "custody", "provenance", "signers")
    return WorkerAttest(url, **trust_of(**{name: given[name] for name in (*names, *signed)}))


def _revoke(given: dict[str, Any]) -> Revoke | None:
    """How a lease is ended, if an administrator's key was given; all three options, or none."""
    url, pin, identity = (given.get(name) for name in ("broker", "broker_fingerprint", "identity"))
    if identity is None:
        return None
    if url is None or pin is None:
        raise UsageError(
            "a lease is ended at a broker", remedy="Give --broker, --broker-fingerprint and --identity together."
        )

    broker_client(url, pin, identity).close()  # what was mistyped is said before anything is destroyed

    def revoke(lease_id: str) -> tuple[str, str]:
        try:
            with closing(broker_client(url, pin, identity)) as client:
                client.revoke(lease_id)
        except LeaseEnded as error:
            return "ended", error.message
        except (NotAuthorised, NotPermitted, ReleaseRefused) as error:
            return "refused", f"{error.message}: it ends by its term"
        except StrongroomError as error:
            return "unreachable", f"{error.message}: it ends by its term"
        return "revoked", ""

    return revoke
