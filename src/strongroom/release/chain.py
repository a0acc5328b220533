"""The hash chain of a lease's verdict tokens, which auditors follow too: see `receipts.chain`."""

from strongroom.receipts.chain import chain_head, token_digest

__all__ = ["chain_head", "token_digest"]
