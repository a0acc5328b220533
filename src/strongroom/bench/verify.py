"""`bench verify`: what verifying evidence costs, as a multiple of one bare signature verification in the same run.

Method: pairs that take turns, each a batch of verifications and a batch of bare ECDSA verifications on the same curve with
the same library; simulated hardware, whose structures and chains are as long as real ones. *First* is a platform that was
never seen before: nothing of it is remembered. *Again* is a new quote of a platform whose collateral was verified before.
Knows: how to measure. Does not know: what is good (the goals say it).
"""

from __future__ import annotations

import importlib.util
import os
import time
from collections.abc import Callable
from typing import Any

from cryptography import x509 as certificates
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.bench.figures import Figure, figure
from strongroom.errors import Unavailable
from strongroom.records.evidence import IntelCollateral
from strongroom.tee import snp, tdx
from strongroom.tee.anchors import installation_anchor
from strongroom.tee.genuine import Genuine
from strongroom_sim import Chip, Installation
from strongroom_sim.snp import SnpChip, SnpInstallation

NOW = 1_790_000_000
AGAIN_GOAL, FIRST_GOAL, SNP_GOAL = 2.5, 14.0, 2.0
PEER_GOAL = 1.0
BATCH = 20
MESSAGE = bytes(632)
"""As long as what a TDX quote signs."""

Progress = Callable[[int, int], None]


def verify(*, pairs: int, progress: Progress) -> list[Figure]:
    """All figures, from `pairs` pairs each. Raises `Unavailable` if simulated evidence does not hold."""
    measures: list[tuple[str, str, float, Callable[[], tuple[float, float]]]] = [
        ("tdx_again", "one ECDSA verification on P-256", AGAIN_GOAL, _tdx_again()),
        ("tdx_first", "one ECDSA verification on P-256", FIRST_GOAL, _tdx_first(pairs)),
        ("snp_again", "one ECDSA verification on P-384", SNP_GOAL, _snp_again()),
    ]
    if importlib.util.find_spec("dcap_qvl") is not None:
        measures.append(("tdx_again_to_peer", "dcap-qvl on the same quote", PEER_GOAL, _tdx_to_peer()))
    samples: dict[str, list[float]] = {name: [] for name, *_ in measures}
    for turn in range(pairs):
        for name, _, _, measure in measures:
            ours, base = measure()
            samples[name].append(ours / base)
        progress(turn + 1, pairs)
    return [
        figure(name, samples[name], unit="x", baseline=baseline, goal=("<=", goal))
        for name, baseline, goal, _ in measures
    ]


def _timed(work: Callable[[], object], times: int) -> float:
    """Seconds for one, the mean of a batch."""
    start = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - start) / times


def _bare(curve: ec.EllipticCurve, algorithm: hashes.HashAlgorithm) -> Callable[[], object]:
    key = ec.generate_private_key(curve)
    public, signature, scheme = key.public_key(), key.sign(MESSAGE, ec.ECDSA(algorithm)), ec.ECDSA(algorithm)
    return lambda: public.verify(signature, MESSAGE, scheme)


def _sound(genuine: Genuine) -> Genuine:
    if not genuine.holds:
        failed = next(check for check in genuine.checks if check.status != "pass")
        raise Unavailable(f"the simulated evidence does not hold ({failed.id}: {failed.detail})")
    return genuine


def _tdx_again() -> Callable[[], tuple[float, float]]:
    installation = Installation.ephemeral(NOW)
    chip, collateral = Chip(installation, mrtd=bytes(48)), installation.collateral(NOW)
    anchors = [installation_anchor("tdx", installation.root_pem)]
    base = _bare(ec.SECP256R1(), hashes.SHA256())
    _sound(tdx.verify(tdx.parse_quote(chip.quote(bytes(64))), collateral, anchors, NOW))

    def measure() -> tuple[float, float]:
        quotes = [chip.quote(os.urandom(64)) for _ in range(BATCH)]
        todo = iter(quotes)
        ours = _timed(lambda: _sound(tdx.verify(tdx.parse_quote(next(todo)), collateral, anchors, NOW)), BATCH)
        return ours, _timed(base, BATCH)

    return measure


def _tdx_first(pairs: int) -> Callable[[], tuple[float, float]]:
    base = _bare(ec.SECP256R1(), hashes.SHA256())
    places = []
    for _ in range(pairs):
        installation = Installation.ephemeral(NOW)
        anchors = [installation_anchor("tdx", installation.root_pem)]
        quote = Chip(installation, mrtd=bytes(48)).quote(os.urandom(64))
        places.append((quote, installation.collateral(NOW), anchors))
    todo = iter(places)

    def measure() -> tuple[float, float]:
        quote, collateral, anchors = next(todo)
        ours = _timed(lambda: _sound(tdx.verify(tdx.parse_quote(quote), collateral, anchors, NOW)), 1)
        return ours, _timed(base, BATCH)

    return measure


def _snp_again() -> Callable[[], tuple[float, float]]:
    installation = SnpInstallation.generate(now=NOW)
    chip = SnpChip(installation, measurement=bytes(48), now=NOW)
    collateral = chip.collateral(NOW)
    anchors = [installation_anchor("snp", installation.root_pem)]
    base = _bare(ec.SECP384R1(), hashes.SHA384())
    _sound(snp.verify(snp.parse_report(chip.report(bytes(64))), collateral, anchors, NOW))

    def measure() -> tuple[float, float]:
        todo = iter([chip.report(os.urandom(64)) for _ in range(BATCH)])
        ours = _timed(lambda: _sound(snp.verify(snp.parse_report(next(todo)), collateral, anchors, NOW)), BATCH)
        return ours, _timed(base, BATCH)

    return measure


def _tdx_to_peer() -> Callable[[], tuple[float, float]]:
    import dcap_qvl

    installation = Installation.ephemeral(NOW)
    chip, collateral = Chip(installation, mrtd=bytes(48)), installation.collateral(NOW)
    anchors = [installation_anchor("tdx", installation.root_pem)]
    root = certificates.load_pem_x509_certificate(installation.root_pem).public_bytes(Encoding.DER)
    theirs = _peers(collateral)
    _sound(tdx.verify(tdx.parse_quote(chip.quote(bytes(64))), collateral, anchors, NOW))

    def measure() -> tuple[float, float]:
        quotes = [chip.quote(os.urandom(64)) for _ in range(BATCH)]
        ours_todo, theirs_todo = iter(quotes), iter(quotes)
        ours = _timed(lambda: _sound(tdx.verify(tdx.parse_quote(next(ours_todo)), collateral, anchors, NOW)), BATCH)
        peer = _timed(lambda: dcap_qvl.verify_with_root_ca(next(theirs_todo), theirs, root, NOW), BATCH)
        return ours, peer

    return measure


def _peers(collateral: IntelCollateral) -> Any:
    import dcap_qvl

    return dcap_qvl.QuoteCollateralV3(
        pck_crl_issuer_chain=collateral.pck_crl_chain,
        root_ca_crl=collateral.root_ca_crl,
        pck_crl=collateral.pck_crl,
        tcb_info_issuer_chain=collateral.tcb_info_chain,
        tcb_info=collateral.tcb_info,
        tcb_info_signature=collateral.tcb_info_signature,
        qe_identity_issuer_chain=collateral.qe_identity_chain,
        qe_identity=collateral.qe_identity,
        qe_identity_signature=collateral.qe_identity_signature,
    )
