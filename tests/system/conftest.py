"""The estates and the libvirt of the system tests."""

from domains import libvirt
from estates import estate, new_estate

__all__ = ["estate", "libvirt", "new_estate"]
