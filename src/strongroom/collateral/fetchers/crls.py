"""CRLs at places that the configuration names: those of AWS Nitro, and of makers of TPMs.

Knows: places by name, and which hosts may be asked. Does not know: issuers (`checks`). Certificates say where their CRL
lies, but who made the evidence wrote that address; it is never fetched. An operator looks it up once and names it. AWS
publishes its CRLs over plain HTTP; their signatures are what counts.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from strongroom.collateral.http import Http, place_of
from strongroom.collateral.items import Item, Part, PlacedCrl
from strongroom.crypto import x509
from strongroom.errors import UsageError

# Source: CRL distribution points of certificates in the cabundle of Nitro attestation documents (2022 to 2025).
NITRO_ROOT_HOST = "aws-nitro-enclaves-crl.s3.amazonaws.com"


class CrlFetcher:
    """CRLs by name from `places` (name → whole address), whose hosts must be among `hosts`.

    Raises `UsageError` for what is no address, and for a host that is not allowed; an empty list allows none.
    """

    def __init__(self, places: Mapping[str, str], *, hosts: Collection[str], http: Http | None = None) -> None:
        self._places = {name: str(place_of(url)) for name, url in places.items()}
        for name, url in self._places.items():
            if place_of(url).host not in hosts:
                raise UsageError(f"{name} lies on a host that is not allowed", remedy="Add the host to the list.")
        self._http = http or Http()

    def serves(self, item: Item) -> bool:
        return isinstance(item, PlacedCrl) and item.place in self._places

    def fetch(self, item: Item) -> Part:
        """Raises `ServiceUnavailable` or `MalformedEvidence`."""
        if not isinstance(item, PlacedCrl) or item.place not in self._places:
            raise UsageError(f"no place is configured for {item.name}")
        crl = self._http.get(self._places[item.place], limit=x509.MAX_CRL_BYTES).body
        x509.load_crl(crl)
        return Part(crl, b"", item.chain)


def nitro_hosts(regions: Collection[str]) -> tuple[str, ...]:
    """The hosts on which AWS publishes the CRLs of its Nitro root and of these regions."""
    return (NITRO_ROOT_HOST, *(f"crl-{name}-aws-nitro-enclaves.s3.{name}.amazonaws.com" for name in regions))
