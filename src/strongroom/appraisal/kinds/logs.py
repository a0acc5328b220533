"""A firmware's event log beside a quote: its checks and facts join the quote's.

Knows: which registers a log must explain, and which go on growing after it. Does not know: formats of logs
(`tee.eventlog`). Without a log there are no such checks: registers that reference values pin need no explanation, and a
policy that wants facts of the log asks for the claim, which is then not there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from strongroom.records.verdict import Check, Status
from strongroom.tee.eventlog import Facts, Style, check_log
from strongroom.tee.genuine import Genuine
from strongroom.tee.steps import Outcome, Steps


def with_log(
    genuine: Genuine,
    log: bytes,
    *,
    style: Style,
    bank: str,
    registers: Mapping[int, str],
    growing: Collection[int] = (),
    vouched: str,
) -> Genuine:
    """`genuine` with the checks of `log`, if there is one.

    `registers` are the claims to explain by their number, `growing` the numbers of registers that others extend after the
    log has ended, `vouched` the check that vouches for the values: the claims are there only if it passed.
    """
    if not log:
        return genuine
    steps = Steps()
    holds = all(claim in genuine.claims for claim in registers.values())
    voucher = Outcome(Check(vouched, Status.PASS if holds else Status.NOT_RUN, ""), found=True)
    values = {n: bytes.fromhex(str(genuine.claims[claim])) for n, claim in registers.items() if holds}
    prefix = genuine.kind.removeprefix("az-") if style is Style.CCEL else "tpm"
    facts = check_log(prefix, log, values, bank, style, steps, voucher, growing=growing)
    claims = {**genuine.claims, **(_claims(facts.value) if facts.holds else {})}
    return dataclasses.replace(genuine, checks=(*genuine.checks, *steps.checks), claims=claims)


def _claims(facts: Facts) -> dict[str, str]:
    told = {"secure_boot": str(int(facts.secure_boot.enabled))}
    return told if facts.gce_technology is None else {**told, "gce_technology": facts.gce_technology}
