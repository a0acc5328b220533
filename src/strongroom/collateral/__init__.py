"""What vendors sign about hardware: fetched, verified, kept. The only room of verification that does I/O."""

from strongroom.collateral.cache import Cache
from strongroom.collateral.checks import Checks, EvaluationNumber
from strongroom.collateral.evidence import Choice, needs_of
from strongroom.collateral.needs import AmdNeeds, CrlNeeds, IntelNeeds, Needs
from strongroom.collateral.source import CollateralSource, Fetcher

__all__ = [
    "AmdNeeds",
    "Cache",
    "Checks",
    "Choice",
    "CollateralSource",
    "CrlNeeds",
    "EvaluationNumber",
    "Fetcher",
    "IntelNeeds",
    "Needs",
    "needs_of",
]
