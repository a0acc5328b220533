"""Where collateral comes from: each module is one vendor's service, behind the port `source.Fetcher`."""

from strongroom.collateral.fetchers.amd import AmdFetcher
from strongroom.collateral.fetchers.crls import CrlFetcher
from strongroom.collateral.fetchers.intel import IntelFetcher

__all__ = ["AmdFetcher", "CrlFetcher", "IntelFetcher"]
