"""Registries over the network: `oci://HOST[:PORT]/NAME[:TAG|@sha256:HEX]` (OCI distribution spec 1.1).

`registry` is the port's implementation; below it `blobs` (ranges, uploads), `repository` (requests, refusals), `auth`,
`challenge` and `credentials` (being let in), `transport` (one exchange), `address` (references, mirrors, plain HTTP).
"""

from strongroom.sealed.registries.oci.registry import OciRegistry

__all__ = ["OciRegistry"]
