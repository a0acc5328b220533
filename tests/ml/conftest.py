"""The estates of what is told with torch."""

from estates import estate, new_estate

__all__ = ["estate", "new_estate"]
