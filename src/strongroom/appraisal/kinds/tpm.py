"""TPM 2.0: what an owner may want of a machine with measured boot, and whether it measured anything at all.

Knows: which claim each requirement is about, and what the registers stand for (TCG PC Client Platform Firmware Profile,
section 3.3.4). Does not know: signatures, formats of event logs.

The registers that reference values must pin, at the least, are those into which code, and what decides about code, is
measured: firmware (0), option ROMs (2), boot loaders (4), the Secure Boot policy (7), what the boot loader does and loads
(8, 9), command lines and extensions that are given to a unified kernel image (12, 13). Any of them left open lets other code
run, which could then extend the rest as it likes. Registers of a machine's configuration (1, 3, 5, 6) differ from machine to
machine, 10 and 11 grow while it runs: a policy may pin them. Events of run time go into 15, which no program resets before
the machine does; 16 and 23 anybody may reset, and they never count.
"""

from __future__ import annotations

from collections.abc import Sequence

from strongroom.appraisal.gather import gather_tpm
from strongroom.appraisal.kinds.kind import Kind, Register, chosen, claim
from strongroom.appraisal.kinds.logs import with_log
from strongroom.appraisal.pile import Pile
from strongroom.crypto import x509
from strongroom.errors import SignatureInvalid
from strongroom.records.evidence import Collateral
from strongroom.records.policy.tpm import TpmPolicy
from strongroom.records.verdict import Check, Level, failed, judged, not_run, passed
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.eventlog import Style
from strongroom.tee.genuine import Genuine
from strongroom.tee.tpm import parse_quote, verify
from strongroom.tee.tpm.trust import same_key
from strongroom.tee.tpm.verify import registers

GROWING = (10, 11, 15, *range(16, 24))
"""Registers that a running system extends after the firmware's log has ended, or that are no firmware's affair."""
LOGGED = tuple(number for number in range(24) if number not in GROWING)
BOOT_CODE = ("pcr0", "pcr4")
"""Registers that a firmware which measures never leaves as they were at power-on."""


def judge(quote: bytes, log: bytes, *, collateral: Collateral, anchors: Sequence[TrustAnchor], now: int) -> Genuine:
    """A TPM quote, with the AK's certificates or its enrolment, and the firmware's log. Raises `MalformedEvidence`."""
    return explained(verify(parse_quote(quote), collateral.tpm, anchors, now), log)


def explained(genuine: Genuine, log: bytes) -> Genuine:
    """The same with the checks and facts of the firmware's event log, if there is one."""
    return with_log(
        genuine,
        log,
        style=Style.TPM,
        bank=str(genuine.claims.get("bank", "sha256")),
        registers={number: f"pcr{number}" for number in LOGGED},
        growing=GROWING,
        vouched="tpm.pcrs.digest",
    )


def stated(quote: bytes) -> dict[str, str | int]:
    """What a quote says, unjudged. Raises `MalformedEvidence`."""
    return registers(parse_quote(quote))


def gather(quote: bytes, pile: Pile) -> Collateral:
    """The certificate of the quote's AK, what stands above it, and its lists. Raises `MalformedEvidence`."""
    ak = parse_quote(quote).ak
    found = None
    for certificate in pile.certificates:
        try:
            if same_key(x509.any_key(certificate), ak.key):
                found = certificate
        except SignatureInvalid:
            continue
    return Collateral(tpm=gather_tpm(pile, found, ak.name))


def wanted(genuine: Genuine, asked: TpmPolicy | None) -> list[Check]:
    """One check a requirement; a claim that is not there makes its check not-run."""
    if asked is None:
        return [failed("policy.tpm", "the policy admits no TPM evidence")]
    checks = [
        claim(genuine, "policy.tpm.bank", "bank", asked.bank),
        chosen(exposed(genuine)[0], "policy.tpm.measured", asked.measured, closed="1", open_="0"),
        _registers(genuine, asked),
        claim(genuine, "policy.tpm.source", "ak_source", asked.source),
        claim(genuine, "policy.tpm.ak_names", "ak_name", asked.ak_names),
        claim(genuine, "policy.tpm.endorsements", "endorsement", asked.endorsements),
        _firmware(genuine, asked.firmware_minimum),
        claim(genuine, "policy.tpm.clock_safe", "clock_safe", asked.clock_safe),
    ]
    if "secure_boot" not in genuine.claims and asked.secure_boot.any is not None:
        return [*checks, passed("policy.tpm.secure_boot", f"not told; {asked.secure_boot.any}")]
    return [*checks, claim(genuine, "policy.tpm.secure_boot", "secure_boot", asked.secure_boot)]


def exposed(genuine: Genuine) -> list[Check]:
    """Whether the firmware measured what it booted: registers as at power-on can be extended to anything afterwards."""
    values = {name: genuine.claims.get(name) for name in BOOT_CODE}
    if not all(isinstance(value, str) and value for value in values.values()):
        return [not_run("tpm.measured", "the quote has no registers of the firmware that hold")]
    blank = [name for name, value in values.items() if not str(value).strip("0")]
    return [judged("tpm.measured", not blank, f"{', '.join(blank)} as at power-on" if blank else "boot was measured")]


def _registers(genuine: Genuine, asked: TpmPolicy) -> Check:
    missing = [name for name in asked.pcrs if name not in genuine.claims]
    if missing:
        return not_run("policy.tpm.pcrs", f"the evidence has no {', '.join(missing)}")
    other = [name for name, wish in asked.pcrs.items() if not wish.admits(str(genuine.claims[name]))]
    return judged(
        "policy.tpm.pcrs", not other, ", ".join(other) or ", ".join(asked.pcrs) or "none beyond the references"
    )


def _firmware(genuine: Genuine, minimum: str) -> Check:
    value = genuine.claims.get("firmware_version")
    if not isinstance(value, str):
        return not_run("policy.tpm.firmware", "the evidence makes no such claim")
    return judged("policy.tpm.firmware", value >= minimum, f"{value}, at least {minimum}")


TPM = Kind(
    name="tpm",
    level=Level.MEASURED,
    registers=("pcr0", "pcr2", "pcr4", "pcr7", "pcr8", "pcr9", "pcr12", "pcr13"),
    runtime=Register("pcr15", 15, "sha256"),
    launch_spec=None,
    machine=("endorsement", "ak_name"),
    judge=judge,
    stated=stated,
    gather=gather,
    wanted=lambda genuine, policy: wanted(genuine, policy.tpm),
    exposed=exposed,
)
