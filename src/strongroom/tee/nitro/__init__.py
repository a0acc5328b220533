"""AWS Nitro Enclaves: attestation documents. Parse, unwrap, verify; `Collector` is for inside an enclave."""

from strongroom.tee.nitro.collect import Collector, detect
from strongroom.tee.nitro.parse import Document, parse_document, unwrap
from strongroom.tee.nitro.verify import verify

__all__ = ["Collector", "Document", "detect", "parse_document", "unwrap", "verify"]
