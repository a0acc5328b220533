"""Sealed artifacts: encrypted, signed things at rest, in any place that keeps OCI content.

`seal` makes one, `open` gives it back to who holds its data key; `wrapping` seals data keys to recipients, `signing` speaks
OpenSSF Model Signing, `registries` are the places. Format: docs/reference/sealed-format.md.
"""
