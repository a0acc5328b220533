"""ECDSA signatures changed: the second one that holds (r, n - s), and scalars at their boundaries.

Knows: the order of P-256 and P-384 (SEC 2), and how r and s stand side by side, or in DER. Does not know: what is signed.
"""

from __future__ import annotations

import random

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from strongroom_sim.mutants import der
from strongroom_sim.mutants.mutant import TRIES, UNCHANGED, Said

ECDSA = "ecdsa"
ORDERS = {
    "secp256r1": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "secp384r1": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
}


def order(curve: ec.EllipticCurve) -> int:
    """How many points the curve's generator has."""
    return ORDERS[curve.name]


def change(chance: random.Random, r: int, s: int, count: int) -> tuple[int, int, Said | None]:
    """Other scalars, and what must come of them: the twin holds just as well (FIPS 186-5 knows both), nothing else does."""
    if not chance.randrange(3):
        return r, count - s, UNCHANGED
    width = 8 * ((count.bit_length() + 7) // 8)
    for _ in range(TRIES):
        boundaries = (0, 1, count, count - 1, count + 1, (1 << width) - 1, r, s, chance.randrange(count))
        first = chance.choice((r, r, chance.choice(boundaries)))
        second = chance.choice((s, s, chance.choice(boundaries)))
        if (first, second) not in {(r, s), (r, count - s)}:
            return first, second, None
    return 0, 0, None


def change_raw(chance: random.Random, signature: bytes, curve: ec.EllipticCurve) -> tuple[bytes, Said | None]:
    """R and s side by side, big-endian."""
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
    first, second, says = change(chance, r, s, order(curve))
    return first.to_bytes(half, "big") + second.to_bytes(half, "big"), says


def twin_of(whole: bytes, curve: ec.EllipticCurve) -> bytes:
    """A certificate or list (DER) with the second signature that holds."""
    unsigned, algorithm, signature = der.parts(whole)
    r, s = decode_dss_signature(der.inside(signature)[1:])
    other = encode_dss_signature(r, order(curve) - s)
    return der.element(der.SEQUENCE, unsigned + algorithm + der.element(der.BITS, b"\0" + other))
