"""Intel SGX: quotes of version 3 with DCAP collateral. Parse and verify; collecting is the enclave's own affair."""

from strongroom.tee.sgx.parse import SgxQuote, parse_quote, trim
from strongroom.tee.sgx.verify import verify

__all__ = ["SgxQuote", "parse_quote", "trim", "verify"]
