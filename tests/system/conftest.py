"""The estates and the libvirt of the system tests."""

from domains import libvirt, libvirts_modules
from estates import estate, new_estate

__all__ = ["estate", "libvirt", "libvirts_modules", "new_estate"]
