"""The forge of each kind.

Knows: which module makes the mutants of which kind. Does not know: any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from strongroom_sim.mutants import azure, cca, dcap, google, nitro, snp, tpm_trust
from strongroom_sim.mutants.mutant import Forge
from strongroom_sim.subjects import Hardware

_FORGES: Mapping[str, Callable[[Hardware], Forge]] = {
    "tdx": lambda hardware: dcap.forge("tdx", hardware),
    "sgx": lambda hardware: dcap.forge("sgx", hardware),
    "snp": snp.forge,
    "tpm": tpm_trust.forge,
    "nitro": nitro.forge,
    "cca": cca.forge,
    "az-snp": lambda hardware: azure.forge("az-snp", hardware),
    "az-tdx": lambda hardware: azure.forge("az-tdx", hardware),
    "gce-snp": lambda hardware: google.forge("gce-snp", hardware),
    "gce-tdx": lambda hardware: google.forge("gce-tdx", hardware),
}
KINDS = tuple(_FORGES)


def forges(hardware: Hardware, kinds: Iterable[str] = KINDS) -> dict[str, Forge]:
    """Kind -> its mutants, all made with this hardware."""
    return {kind: _FORGES[kind](hardware) for kind in kinds}
