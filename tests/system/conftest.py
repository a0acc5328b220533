"""The estates of the system tests."""

from estates import estate, new_estate

__all__ = ["estate", "new_estate"]
