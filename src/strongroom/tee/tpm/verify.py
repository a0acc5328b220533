"""Is it genuine? The whole ordered verification of a TPM quote, offline, at a given time, under given anchors.

Knows: the steps (TPM 2.0 Library, Parts 1 to 3) and what each needs of those before it. Does not know: what anyone wants of
the machine (`appraisal`), what the registers' values mean (event logs), where collateral comes from, what time it is.

    (1) who vouches for the AK: exactly one of its certificate, an enrolment, another verifier; and for this very key
    (2) the AK's attributes and scheme      (3) the quote's scheme, signature, origin and, under a certificate, signer
    (4) banks, selection and digest of the registers

An AK that evidence itself brings, vouched for by nobody, fails `tpm.ak`. A claim is made only if all that vouches for it
passed: without a vouched key, a signature and a digest there are no registers. A certificate vouches for a key but not for
the attributes that evidence shows beside it; these are in the key's name, and the name is in the qualified signer, which the
TPM signs: so a certified key must be a primary key of the endorsement or owner hierarchy. The selection must be exactly the
registers whose values are shown: values of registers that anybody can reset (16, 23) can then not stand for others. The
clock, its resets and the firmware's version are claims, and policy judges them. No vendor publishes a status for a TPM.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from strongroom.records.evidence import TpmCollateral
from strongroom.tee.anchors import TrustAnchor
from strongroom.tee.genuine import NO_CRL, Genuine
from strongroom.tee.steps import Doubt, Outcome, Steps, require
from strongroom.tee.tpm import enrol, keys, trust
from strongroom.tee.tpm.parse import ENDORSEMENT, OWNER, Quote
from strongroom.tee.tpm.trust import AK_HIERARCHY, KIND, AkTrust, Chain

CERTIFICATE = "tpm.ak.certificate"
NOTHING = TpmCollateral("", ())
HIERARCHIES = {ENDORSEMENT: "endorsement hierarchy", OWNER: "owner hierarchy"}
GENERATED = 0xFF544347
"""TPM_GENERATED_VALUE (Part 2, section 6.2): a restricted key signs nothing from outside that begins with it."""
BANKS = ("sha256", "sha384", "sha512")
"""The banks that count, the preferred first: registers are claimed of the first one that the quote holds."""


def verify(
    quote: Quote,
    collateral: TpmCollateral | None,
    anchors: Sequence[TrustAnchor],
    now: int,
    *,
    vouched: AkTrust | None = None,
) -> Genuine:
    """Judge `quote` at `now` (Unix seconds). Never raises: every doubt is a check.

    `vouched` is another verifier's word for the AK, where that verifier has itself judged what it rests on; collateral
    must then be None.
    """
    steps = Steps()
    voucher = _verify_trust(steps, quote, collateral, anchors, now, vouched)  # (1)
    bare = [voucher] if quote.ak.attributes is None else []  # of whose attributes only the voucher can speak
    attributes = steps.run(  # (2)
        "tpm.ak.attributes", lambda: keys.check_attributes(quote.ak, voucher.value if bare else None), *bare
    )
    scheme = steps.run("tpm.ak.scheme", lambda: keys.check_scheme(quote.ak), describe=str)
    origin = _verify_signature(steps, quote, scheme)  # (3)
    needed: list[Outcome[Any]] = [voucher, attributes, origin]
    if voucher.check.id == CERTIFICATE:
        needed.append(steps.run("tpm.quote.signer", lambda: _signer(quote), voucher, origin, describe=str))
    bank = steps.run("tpm.pcrs.bank", lambda: _bank(quote), describe=str)  # (4)
    selection = steps.run("tpm.pcrs.selection", lambda: _selection(quote), origin, describe=str)
    digest = steps.run("tpm.pcrs.digest", lambda: _digest(quote), selection)
    claims: dict[str, str | int] = {}
    if all(outcome.holds for outcome in needed):
        claims |= _statement(quote, voucher.value)
        if bank.holds and digest.holds:
            claims |= _registers(quote, bank.value)
    return Genuine(
        kind=KIND,
        checks=steps.checks,
        root_class=voucher.value.root_class if voucher.holds else None,
        tcb_status=None,
        advisories=(),
        claims=claims,
    )


def registers(quote: Quote) -> dict[str, str | int]:
    """What a quote says of registers, unjudged."""
    bank = next((name for name in BANKS if name in quote.pcrs), "")
    return {**_said(quote), **(_registers(quote, bank) if bank else {})}


def _verify_trust(
    steps: Steps,
    quote: Quote,
    collateral: TpmCollateral | None,
    anchors: Sequence[TrustAnchor],
    now: int,
    vouched: AkTrust | None,
) -> Outcome[AkTrust]:
    """Whose word is taken, and that it holds and is about this key."""
    given = collateral or NOTHING
    sources = {"certificate": bool(given.chain), "enrolment": bool(given.enrolment), "verifier": vouched is not None}

    def one() -> str:
        found = [source for source, there in sources.items() if there]
        require(found, "nobody vouches for the key: no certificate, no enrolment")
        require(len(found) == 1, f"{' and '.join(found)} vouch for the key; exactly one may")
        if vouched is not None:
            _of_this_key(vouched, quote)
        return vouched.source if vouched is not None else found[0]

    source = steps.run("tpm.ak", one, describe=str)
    if given.chain:
        return _verify_certificate(steps, quote, given, anchors, now, source)
    if given.enrolment:
        return steps.run(
            "tpm.ak.enrolment",
            lambda: _of_this_key(enrol.open_enrolment(given.enrolment, anchors, now), quote),
            source,
            describe=lambda word: word.endorsement,
        )
    return Outcome(source.check, vouched)


def _verify_certificate(
    steps: Steps,
    quote: Quote,
    collateral: TpmCollateral,
    anchors: Sequence[TrustAnchor],
    now: int,
    source: Outcome[str],
) -> Outcome[AkTrust]:
    """The AK's own certificate: its anchor, its path, revocation, and what it says."""
    anchor = steps.run(
        "tpm.anchor",
        lambda: trust.anchor_of(trust.load(collateral), anchors),
        source,
        describe=lambda found: found.name,
    )
    chain: Outcome[Chain] = steps.run(
        "tpm.ak.chain",
        lambda: trust.check_path(trust.load(collateral), anchor.value, now, AK_HIERARCHY),
        anchor,
    )
    if chain.holds and not collateral.crls:
        steps.not_run("tpm.ak.crl", NO_CRL)
    else:
        steps.run("tpm.ak.crl", lambda: trust.check_lists(chain.value, collateral.crls, now), chain)
    return steps.run(
        CERTIFICATE,
        lambda: trust.check_ak_certificate(chain.value, anchor.value, quote.ak),
        chain,
        describe=lambda found: found.endorsement,
    )


def _verify_signature(steps: Steps, quote: Quote, scheme: Outcome[str]) -> Outcome[bool]:
    made = steps.run(
        "tpm.quote.scheme", lambda: keys.check_signature_scheme(quote.ak, quote.signature), scheme, describe=str
    )
    signature = steps.run(
        "tpm.quote.signature",
        lambda: keys.check_signature(quote.ak, quote.signature, quote.attest.raw),
        made,
    )
    return steps.run("tpm.quote.magic", lambda: _generated(quote), signature)


def _of_this_key(word: AkTrust, quote: Quote) -> AkTrust:
    require(word.ak_name == quote.ak.name, "another key is vouched for than the one that evidence brings")
    return word


def _signer(quote: Quote) -> str:
    """The name that the TPM signed is the one of the public part that evidence brings."""
    if quote.ak.name_hash is None:
        return "a bare key: its certificate speaks for its attributes too"
    names = {quote.ak.qualified_name(hierarchy): word for hierarchy, word in HIERARCHIES.items()}
    found = names.get(quote.attest.qualified_signer)
    if found is None:
        raise Doubt("the key that signed is no primary key with the public part that evidence brings")
    return found


def _generated(quote: Quote) -> bool:
    require(quote.attest.magic == GENERATED, f"{quote.attest.magic:#010x}: no TPM made what was signed")
    return True


def _bank(quote: Quote) -> str:
    """The bank whose registers are claimed. Registers of SHA-1 may be in a quote, but never count."""
    found = [name for name in BANKS if quote.pcrs.get(name)]
    if not found:
        raise Doubt(f"no registers of {', '.join(BANKS)}")
    return found[0]


def _selection(quote: Quote) -> str:
    """What was quoted is what is shown: the same banks, and in each the same registers."""
    quoted = {bank: set(indices) for bank, indices in quote.attest.selection if indices}
    shown = {bank: set(values) for bank, values in quote.pcrs.items() if values}
    require(quoted, "the quote is about no register")
    require(quoted == shown, f"quoted are {_words(quoted)}; shown are {_words(shown)}")
    return _words(quoted)


def _digest(quote: Quote) -> bool:
    """The digest over the values in the order of the selection, with the signature's hash (Part 3, TPM2_Quote)."""
    digest = hashlib.new(quote.signature.hash)
    for bank, indices in quote.attest.selection:
        for index in indices:
            digest.update(quote.pcrs[bank][index])
    require(digest.digest() == quote.attest.pcr_digest, "the values shown are not those that were quoted")
    return True


def _statement(quote: Quote, word: AkTrust) -> dict[str, str | int]:
    """What the TPM says besides its registers, and who vouches for it."""
    return {
        **{name: value for name, value in word.facts.items() if name not in _RESERVED},
        **_said(quote),
        "ak_source": word.source,
        "endorsement": word.endorsement,
    }


def _said(quote: Quote) -> dict[str, str | int]:
    attest = quote.attest
    return {
        "report_data": attest.extra_data.hex(),
        "ak_name": quote.ak.name,
        "qualified_signer": attest.qualified_signer.hex(),
        "clock": f"{attest.clock:016x}",
        "clock_safe": "1" if attest.clock_safe else "0",
        "reset_count": attest.reset_count,
        "restart_count": attest.restart_count,
        "firmware_version": f"{attest.firmware_version:016x}",
    }


def _registers(quote: Quote, bank: str) -> dict[str, str | int]:
    return {"bank": bank, **{f"pcr{index}": value.hex() for index, value in sorted(quote.pcrs[bank].items())}}


def _words(banks: dict[str, set[int]]) -> str:
    return "; ".join(f"{bank} {','.join(map(str, sorted(found)))}" for bank, found in sorted(banks.items())) or "none"


_RESERVED = frozenset({"report_data", "bank", "ak_name", "ak_source", *(f"pcr{index}" for index in range(24))})
