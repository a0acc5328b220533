"""TPM 2.0: quotes of platform registers. Parse, verify, enrol attestation keys; `Collector` is for a machine with a TPM."""

from strongroom.tee.tpm.collect import Collector, detect
from strongroom.tee.tpm.formats import read_attestation, read_coco, read_raw_quote, read_tpm2_tools
from strongroom.tee.tpm.parse import Quote, parse_key, parse_quote, read_quote
from strongroom.tee.tpm.trust import AkTrust
from strongroom.tee.tpm.verify import verify

__all__ = [
    "AkTrust",
    "Collector",
    "Quote",
    "detect",
    "parse_key",
    "parse_quote",
    "read_attestation",
    "read_coco",
    "read_quote",
    "read_raw_quote",
    "read_tpm2_tools",
    "verify",
]
