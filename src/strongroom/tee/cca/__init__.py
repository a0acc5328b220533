"""Arm CCA: attestation tokens of realms and their platforms. Parse, verify; `Collector` is for inside a realm."""

from strongroom.tee.cca.collect import Collector, detect
from strongroom.tee.cca.parse import Token, parse_token
from strongroom.tee.cca.verify import platform_anchor, verify

__all__ = ["Collector", "Token", "detect", "parse_token", "platform_anchor", "verify"]
