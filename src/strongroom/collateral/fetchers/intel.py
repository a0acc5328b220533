"""Intel's provisioning service: PCS, PCCS, and mirrors of either (PCS API v4; the paths are the same).

Knows: paths, headers, forms. Does not know: whether anything holds (`checks`). The signature in a document of PCS is
over the exact text of its first member, so that text is cut out of the body and never written anew. Not covered: PCK
certificates, which a quote brings itself; subscription keys, which nothing here needs.
"""

from __future__ import annotations

import json
import re
from json.decoder import JSONDecoder
from typing import Any
from urllib.parse import unquote_to_bytes

from strongroom.collateral.http import Answer, Http, base_of, place_of
from strongroom.collateral.items import EvaluationNumbers, Item, Part, PckCrl, QeIdentity, RootCrl, TcbInfo
from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, MalformedRecord, UsageError
from strongroom.records import codec

PCS = "https://api.trustedservices.intel.com"
# The CRL distribution point that every certificate below Intel's SGX root names; PCS itself has no path for it.
PCS_ROOT_CRL = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
MAX_DOCUMENT_BYTES = 1024 * 1024
MAX_CRL_BODY = 2 * x509.MAX_CRL_BYTES + 2  # PCCS writes hexadecimal

TCB_CHAIN = "TCB-Info-Issuer-Chain"
IDENTITY_CHAIN = "SGX-Enclave-Identity-Issuer-Chain"
NUMBERS_CHAIN = "TCB-Evaluation-Data-Numbers-Issuer-Chain"
CRL_CHAIN = "SGX-PCK-CRL-Issuer-Chain"
_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}")
_HEXADECIMAL = re.compile(rb"(?:[0-9a-fA-F]{2})+")
_SPACE = " \t\r\n"


class IntelFetcher:
    """TCB info, QE identity, evaluation numbers and CRLs from PCS at `url`, or from a PCCS or mirror there.

    `root_crl_url` is where the root's CRL lies; by default beside PCS where Intel puts it, and for any other `url` at
    `rootcacrl` there, as PCCS has it. Raises `UsageError` for what is no address.
    """

    def __init__(self, url: str = PCS, *, root_crl_url: str | None = None, http: Http | None = None) -> None:
        self._base = base_of(url)
        default = PCS_ROOT_CRL if self._base == PCS else f"{self._base}/sgx/certification/v4/rootcacrl"
        self._root_crl = str(place_of(root_crl_url or default))
        self._http = http or Http()

    def serves(self, item: Item) -> bool:
        return isinstance(item, TcbInfo | QeIdentity | EvaluationNumbers | PckCrl | RootCrl)

    def fetch(self, item: Item) -> Part:
        """Raises `ServiceUnavailable` or `MalformedEvidence`."""
        match item:
            case TcbInfo():
                query = f"fmspc={item.fmspc.hex()}&{_track(item.track)}"
                return self._document(f"/{item.kind}/certification/v4/tcb?{query}", "tcbInfo", TCB_CHAIN)
            case QeIdentity():
                path = f"/{item.kind}/certification/v4/qe/identity?{_track(item.track)}"
                return self._document(path, "enclaveIdentity", IDENTITY_CHAIN)
            case EvaluationNumbers():
                path = f"/{item.kind}/certification/v4/tcbevaluationdatanumbers"
                return self._document(path, "tcbEvaluationDataNumbers", NUMBERS_CHAIN)
            case PckCrl():
                path = f"/sgx/certification/v4/pckcrl?ca={item.ca}&encoding=der"
                answer = self._http.get(self._base + path, limit=MAX_CRL_BODY)
                return Part(der_of(answer.body), b"", issuer_chain(answer, CRL_CHAIN))
            case RootCrl():
                return Part(der_of(self._http.get(self._root_crl, limit=MAX_CRL_BODY).body), b"", "")
            case _:
                raise UsageError(f"Intel has no {item.name}")

    def _document(self, path: str, member: str, header: str) -> Part:
        answer = self._http.get(self._base + path, limit=MAX_DOCUMENT_BYTES, content_type="application/json")
        text, signature = cut_signed(answer.body, member)
        return Part(text.encode("utf-8"), signature, issuer_chain(answer, header))


def cut_signed(body: bytes, member: str) -> tuple[str, bytes]:
    """The exact text of `member` in a JSON object that has it and `signature` (128 hexadecimal digits), nothing else.

    Raises `MalformedEvidence`.
    """
    try:
        value = codec.parse_json(body, limit=MAX_DOCUMENT_BYTES)
        text = body.decode("utf-8")
    except (MalformedRecord, UnicodeDecodeError):
        raise MalformedEvidence(f"the document with {member} is not JSON") from None
    if not isinstance(value, dict) or value.keys() != {member, "signature"} or not isinstance(value[member], dict):
        raise MalformedEvidence(f"the document does not consist of {member} and its signature")
    signature = value["signature"]
    if not isinstance(signature, str) or _SIGNATURE.fullmatch(signature) is None:
        raise MalformedEvidence(f"the signature of {member} is not 64 bytes in hexadecimal")
    start, end = _members(text)[member]
    return text[start:end], bytes.fromhex(signature)


def _members(text: str) -> dict[str, tuple[int, int]]:
    """Where the value of each member begins and ends, in the text of an object that is known to be JSON."""
    decoder = JSONDecoder()
    found: dict[str, tuple[int, int]] = {}
    position = _skip(text, 0) + 1
    while True:
        name, position = _value(decoder, text, _skip(text, position))
        start = _skip(text, _skip(text, position) + 1)
        _, end = _value(decoder, text, start)
        found[name] = (start, end)
        position = _skip(text, end)
        if text[position] == "}":
            return found
        position += 1


def _value(decoder: JSONDecoder, text: str, position: int) -> tuple[Any, int]:
    try:
        return decoder.raw_decode(text, position)
    except (json.JSONDecodeError, RecursionError):
        raise MalformedEvidence("the document is not JSON") from None


def _skip(text: str, position: int) -> int:
    while text[position] in _SPACE:
        position += 1
    return position


def issuer_chain(answer: Answer, header: str) -> str:
    """The certificates in a header: PEM, URL-encoded. Raises `MalformedEvidence`; also where the header is missing."""
    encoded = answer.headers.get(header)
    if not encoded:
        raise MalformedEvidence(f"the answer lacks the header {header}")
    try:
        pem = unquote_to_bytes(encoded).decode("ascii").replace("\r\n", "\n")
    except UnicodeError:
        raise MalformedEvidence(f"the header {header} is not PEM") from None
    x509.load_chain(pem)
    return pem


def der_of(body: bytes) -> bytes:
    """A CRL as DER, whether it came so or as hexadecimal. Raises `MalformedEvidence`."""
    stripped = body.strip()
    der = bytes.fromhex(stripped.decode("ascii")) if _HEXADECIMAL.fullmatch(stripped) else body
    x509.load_crl(der)
    return der


def _track(track: str) -> str:
    return f"tcbEvaluationDataNumber={track}" if track.isdigit() else f"update={track}"
