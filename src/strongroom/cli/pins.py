"""The PIN of a token, from the person at the terminal.

Knows: prompts. Does not know: tokens.
"""

from __future__ import annotations

import sys

import click

from strongroom.errors import UsageError

PIN_REMEDY = "Name it in the address: pin-source=file:/PATH or pin-source=env:NAME."


def ask_pin() -> str:
    """Ask the person at the terminal. Raises `UsageError` where there is none."""
    if not sys.stdin.isatty():
        raise UsageError("the token wants a PIN, and nobody is here to ask", remedy=PIN_REMEDY)
    return str(click.prompt("PIN of the token", hide_input=True, err=True))
