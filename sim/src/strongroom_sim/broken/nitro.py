"""Nitro documents that are wrong in one way each: for every check the one that fails it, and fails nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

from strongroom.crypto.signatures import generate_p384
from strongroom.records.evidence import AwsCollateral
from strongroom_sim.nitro import LEAF_LIFE, Enclave, NitroCloud


class Broken(NamedTuple):
    """A document, the CRLs that come with it, and the time at which it is judged."""

    quote: bytes
    collateral: AwsCollateral | None
    now: int


def broken(cloud: NitroCloud, now: int) -> Mapping[str, Broken]:
    """Check -> what fails exactly this check under the root of `cloud`."""
    enclave = Enclave(cloud, {index: hashlib.sha384(bytes([index])).digest() for index in range(3)})
    good, crls = enclave.payload(user_data=bytes(64), now=now), cloud.collateral(now)
    foreign = Enclave(NitroCloud.create(now=now), enclave.pcrs)
    without_pcr1 = {index: value for index, value in enclave.pcrs.items() if index != 1}
    return {
        "nitro.anchor": Broken(foreign.quote(bytes(64), now=now), crls, now),
        "nitro.chain": Broken(enclave.sign(good), crls, now + LEAF_LIFE + 1),
        "nitro.crl": Broken(enclave.sign(good), cloud.collateral(now, revoked=("zone",)), now),
        "nitro.signature": Broken(enclave.sign(good, generate_p384()), crls, now),
        "nitro.timestamp": Broken(enclave.sign({**good, "timestamp": 1000 * (now - 60)}), crls, now),
        "nitro.pcrs": Broken(enclave.sign({**good, "pcrs": without_pcr1}), crls, now),
    }
