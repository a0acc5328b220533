"""The root of the command line, and the one place where errors become exit codes.

0 yes or done · 1 refused (a verdict) · 2 usage · 3 unreadable input · 4 unavailable. Every command takes `--json`. Commands load when
they are named, so that each needs only its own extra.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from strongroom import errors
from strongroom.cli import output

COMMANDS = {
    "administrators": "administrators",
    "audit": "audit",
    "bench": "bench",
    "broker": "broker",
    "cells": "cells",
    "chat": "talk",
    "collateral": "collateral",
    "copy": "copy",
    "credits": "credits",
    "demo": "demo",
    "doctor": "doctor",
    "erase": "erase",
    "evidence": "evidence",
    "front-door": "door",
    "image": "image",
    "inspect": "sealed",
    "job": "job",
    "keys": "keys",
    "launch": "launch",
    "leases": "leases",
    "log": "receipt",
    "measure": "measure",
    "ocicrypt": "ocicrypt",
    "open": "sealed",
    "policy": "policy",
    "proxy": "talk",
    "receipt": "receipt",
    "relay": "relay",
    "rekey": "rotation",
    "rewrap": "rotation",
    "seal": "sealed",
    "serve": "serve",
    "tenants": "tenants",
    "sign": "signing",
    "verification": "verification",
    "verify-signature": "signing",
}
EXTRAS = {
    "starlette": "broker",
    "uvicorn": "broker",
    "sqlalchemy": "broker",
    "blake3": "owner",
    "xllamacpp": "worker",
    "rich": "demo",
    "strongroom_sim": "demo",
    "openai": "openai",
    "pkcs11": "pkcs11",
}


class Commands(click.Group):
    """Finds a command by its name and imports only its file."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's signature)
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 (click's signature)
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"strongroom.cli.{COMMANDS[cmd_name]}")
        command = getattr(module, cmd_name.replace("-", "_") + "_command")
        if not isinstance(command, click.Command):
            raise TypeError(cmd_name)
        return command


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="strongroom", prog_name="strongroom")
def strongroom() -> None:
    """Confidential AI on machines that you do not own.

    Nothing secret is opened anywhere until that place has proved what it is, and everything done there leaves a receipt
    that anyone can check.
    """


def run() -> None:
    """The entry point: runs a command and ends the process with its exit code.

    Never shows a traceback, unless `STRONGROOM_TRACEBACK` is set: what is in its lines may be somebody's secret.
    """
    as_json = "--json" in sys.argv
    try:
        code = strongroom.main(prog_name="strongroom", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except errors.StrongroomError as error:
        fail(error, as_json=as_json)
    except click.exceptions.Abort:
        fail(
            errors.Unavailable("interrupted", remedy="Start it again; nothing half-written was left."), as_json=as_json
        )
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(errors.UsageError.exit_code)
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        remedy = f"See `{context.command_path} --help`." if context is not None else None
        fail(errors.UsageError(error.format_message(), remedy=remedy), as_json=as_json)
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        extra = EXTRAS.get(package)
        if extra is None:
            raise
        remedy = f"pip install 'strongroom[{extra}]'"
        fail(errors.Unavailable(f"the package {package} is not installed", remedy=remedy), as_json=as_json)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if os.environ.get("STRONGROOM_TRACEBACK"):
            raise
        remedy = "This is a bug. Set STRONGROOM_TRACEBACK=1, run it again, and report what it prints."
        fail(errors.StrongroomError(f"unexpected: {type(error).__name__}", remedy=remedy), as_json=as_json)


def fail(error: errors.StrongroomError, *, as_json: bool) -> None:
    """Say what went wrong, once, and exit."""
    if as_json:
        output.print_json({"error": error.as_dict()})
    else:
        click.echo(f"strongroom: {error.message}", err=True)
        reasons = error.reasons if isinstance(error, errors.AppraisalRefused) else ()
        for line in error.shown() if isinstance(error, errors.AppraisalRefused) else ():
            click.echo(f"  check:  {line}", err=True)
        if error.detail and not reasons:
            click.echo(f"  where:  {error.detail}", err=True)
        click.echo(f"  remedy: {error.remedy}", err=True)
        click.echo(f"  code:   {error.code}", err=True)
    sys.exit(error.exit_code)
