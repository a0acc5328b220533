"""Intel TDX: quotes of versions 4 and 5 with DCAP collateral. Parse, verify, replay; `Collector` is for inside a TD."""

from strongroom.tee.tdx.collect import Collector, detect
from strongroom.tee.tdx.events import replay
from strongroom.tee.tdx.parse import Quote, parse_quote, trim
from strongroom.tee.tdx.verify import verify

__all__ = ["Collector", "Quote", "detect", "parse_quote", "replay", "trim", "verify"]
