"""Words for fetching a receipt later: what a client puts inside its sealed request, and the path at which it asks.

Knows: names and forms. Does not know: who keeps receipts (`services.shelf`), who checks them (`client.fetching`).
"""

from __future__ import annotations

import re

RECEIPTS_PATH = "/v1/receipts"
RECEIPT_KEY_FIELD = "strongroom-receipt-key"
"""The header, inside the seal, that makes a worker keep a receipt, and that shows whose it is."""
KEY_BYTES = 32
_KEY = re.compile(r"[0-9a-f]{64}")


def is_receipt_key(text: str) -> bool:
    """Whether `text` is a receipt key: 32 bytes in lower-case hexadecimal."""
    return _KEY.fullmatch(text) is not None
