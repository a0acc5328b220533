"""What a piece of evidence needs, read from its own bytes. Nothing of it is verified here.

Knows: where each kind says which platform it is of. Does not know: files, or which of it is true: a lie leads to
collateral that the verifier then finds not to fit. Not covered: CCA, whose endorsements no service gives; the certificate
of a TPM's key, which its maker or cloud gives with the evidence.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, cast

from cryptography import x509 as certificates
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from strongroom.collateral.items import AmdProduct, AmdSigner, IntelKind
from strongroom.collateral.needs import AUTHORITIES, AmdNeeds, CrlNeeds, IntelNeeds, Needs
from strongroom.crypto import x509
from strongroom.errors import MalformedEvidence, UsageError
from strongroom.records import codec
from strongroom.records.azure import AzureEvidence
from strongroom.records.google import GoogleEvidence
from strongroom.tee import nitro, sgx, snp, tdx
from strongroom.tee.dcap.pck import parse_extension
from strongroom.tee.snp import products
from strongroom.tee.snp.endorsement import VLEK_NAME
from strongroom.tee.snp.leaf import parse_leaf
from strongroom.tee.snp.verify import SIGNERS


@dataclass(frozen=True, slots=True)
class Choice:
    """What evidence does not say: Intel's track (see `IntelNeeds`), and the configuration's places for Nitro's CRLs."""

    update: Literal["standard", "early"] = "standard"
    evaluation: int | None = None
    places: tuple[str, ...] = ()


def needs_of(kind: str, quote: bytes, *, choice: Choice | None = None, leaves: Collection[bytes] = ()) -> Needs:
    """What evidence of `kind` needs of its vendor. `leaves` (DER) are certificates that came with it.

    Raises `MalformedEvidence`, or `UsageError` for a kind of which nothing is fetched.
    """
    choice = choice or Choice()
    match kind:
        case "tdx":
            return of_pck_chain("tdx", tdx.parse_quote(quote).pck_chain, choice)
        case "sgx":
            return of_pck_chain("sgx", sgx.parse_quote(quote).pck_chain, choice)
        case "snp":
            return of_report(snp.parse_report(quote), leaves)
        case "az-snp" | "az-tdx":
            return _of_hardware(kind, codec.decode(AzureEvidence, quote).hardware, choice, leaves)
        case "gce-snp" | "gce-tdx":
            return _of_hardware(kind, codec.decode(GoogleEvidence, quote).hardware, choice, leaves)
        case "nitro":
            return _of_nitro(quote, choice)
        case _:
            raise UsageError(f"no collateral is fetched for evidence of kind {kind}", remedy="Give it as a file.")


def of_pck_chain(kind: IntelKind, chain: str, choice: Choice) -> IntelNeeds:
    """What a quote needs, by the PCK chain (PEM) that it carries. Raises `MalformedEvidence`."""
    if not chain:
        raise MalformedEvidence("the quote names its platform by a PPID only, which does not say its family")
    leaf = x509.load_chain(chain)[0]
    names = leaf.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    ca = AUTHORITIES.get(str(names[0].value)) if len(names) == 1 else None
    if ca is None:
        raise MalformedEvidence("the PCK certificate was issued by no CA of Intel's")
    return IntelNeeds(kind, parse_extension(leaf).fmspc, ca, choice.update, choice.evaluation)


def of_report(report: snp.Report, leaves: Collection[bytes] = ()) -> AmdNeeds:
    """What an SNP report needs. The product comes from its CPUID, or from the leaf that came with it.

    Raises `MalformedEvidence`, or `UsageError` where the report hides what KDS would have to be asked for.
    """
    name = SIGNERS.get(report.signing_key)
    if name is None:
        raise MalformedEvidence("the report says that no known key signed it")
    found = next((leaf for leaf in map(x509.load_certificate, leaves) if x509.common_name(leaf) == name), None)
    if report.cpuid is not None:
        product = products.of_cpuid(*report.cpuid[:2])
    elif found is not None:
        product = products.of_name(parse_leaf(found).product_name)
    else:
        raise UsageError("reports before version 3 do not name their product", remedy="Give the VCEK as a file.")
    if product is None:
        raise MalformedEvidence("the report is of an unknown product")
    signer: AmdSigner = "vlek" if name == VLEK_NAME else "vcek"
    leaf = found.public_bytes(Encoding.DER) if found is not None else b""
    return AmdNeeds(cast("AmdProduct", product), report.chip_id, report.reported_tcb, signer, leaf)


def _of_hardware(kind: str, hardware: bytes, choice: Choice, leaves: Collection[bytes]) -> Needs:
    """What the hardware beneath a cloud's vTPM needs."""
    if kind.endswith("tdx"):
        return of_pck_chain("tdx", tdx.parse_quote(hardware).pck_chain, choice)
    return of_report(snp.parse_report(hardware), leaves)


def _of_nitro(quote: bytes, choice: Choice) -> CrlNeeds:
    """CRLs at the places that were chosen, for the CAs of the document's own bundle."""
    if not choice.places:
        raise UsageError(
            "the evidence says where its CRLs lie, but that is not where they are fetched",
            remedy="Look the addresses up, and name them: --crl NAME=URL.",
        )
    above = [x509.load_certificate(der) for der in reversed(nitro.parse_document(quote).cabundle)]
    return CrlNeeds("nitro", chain_pem(above), choice.places)


def chain_pem(chain: list[certificates.Certificate]) -> str:
    """Certificates as the PEM text that records hold."""
    return "".join(found.public_bytes(Encoding.PEM).decode("ascii") for found in chain)
