"""AMD's Key Distribution Service (AMD 57230, chapter on the KDS interface), or a mirror of it.

Knows: paths and forms. Does not know: whether anything holds (`checks`). KDS limits rates hard and says so by 429; the
back-off is long for that reason, and certificates are kept until they end. KDS learns which chip is asked for; a mirror
of one's own avoids that. Not covered: VLEKs, which KDS gives only to the cloud provider that they are for.
"""

from __future__ import annotations

from strongroom.collateral.http import Backoff, Http, base_of
from strongroom.collateral.items import AmdChain, AmdCrl, AmdLeaf, Item, Part
from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, UsageError
from strongroom.tee.snp import products
from strongroom.tee.snp.endorsement import authorities

KDS = "https://kdsintf.amd.com"
MAX_CERTIFICATE_BYTES = 16 * 1024
PATIENT = Backoff(attempts=6, first=2.0, longest=60.0)
LEVELS = {"fmc": "fmcSPL", "bootloader": "blSPL", "tee": "teeSPL", "snp": "snpSPL", "microcode": "ucodeSPL"}
"""Each part of a TCB version, by its name in a request."""


class AmdFetcher:
    """VCEKs, ASK and ARK, and the ARK's CRL from KDS at `url`. Raises `UsageError` for what is no address."""

    def __init__(self, url: str = KDS, *, http: Http | None = None) -> None:
        self._base, self._http = base_of(url), http or Http(backoff=PATIENT)

    def serves(self, item: Item) -> bool:
        return isinstance(item, AmdChain | AmdLeaf | AmdCrl)

    def fetch(self, item: Item) -> Part:
        """Raises `ServiceUnavailable` or `MalformedEvidence`."""
        match item:
            case AmdChain():
                body = self._get(f"/{item.signer}/v1/{item.product}/cert_chain", x509.MAX_PEM_BYTES)
                return Part(b"", b"", _pem(body))
            case AmdCrl():
                crl = self._get(f"/{item.signer}/v1/{item.product}/crl", x509.MAX_CRL_BYTES)
                x509.load_crl(crl)
                return Part(crl, b"", "")
            case AmdLeaf():
                levels = "&".join(f"{LEVELS[part]}={n}" for part, n in products.parts(item.product, item.tcb).items())
                leaf = self._get(f"/vcek/v1/{item.product}/{item.hwid.hex()}?{levels}", MAX_CERTIFICATE_BYTES)
                x509.load_certificate(leaf)
                return Part(leaf, b"", "")
            case _:
                raise UsageError(f"AMD has no {item.name}")

    def _get(self, path: str, limit: int) -> bytes:
        return self._http.get(self._base + path, limit=limit).body


def _pem(body: bytes) -> str:
    try:
        pem = body.decode("ascii").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise MalformedEvidence("AMD's chain of certificates is not PEM") from None
    authorities(pem)
    return pem
