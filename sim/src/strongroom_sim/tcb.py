"""TCB info and QE identity of the simulated platform, for TDX and SGX, in the shape of Intel's service (PCS API v4).

Knows: three levels (up to date, out of date, revoked), so that a chip or a platform can be made to reach each. Does not know: keys.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Any

from strongroom_sim.certificates import Platform

FMSPC = b"sim\0\0\0"
COMPONENTS = (5,) * 16
PCESVN = 11
EVALUATION_NUMBER = 1
ADVISORY = "STRONGROOM-SIM-SA-00001"

QE_MRSIGNER = hashlib.sha256(b"strongroom-sim/quoting-enclave/v1").digest()
QE_ATTRIBUTES = bytes.fromhex("11" + "00" * 15)
QE_PRODUCT = 2
SGX_QE_PRODUCT = 1
QE_SVN = 4

MODULE_SVN = 5
TEE_TCB_SVN = bytes([MODULE_SVN, 1, 5]) + bytes(13)
"""Byte 0: the module's SVN, byte 1: its generation, from byte 2: the platform's TDX components."""
TEE_TCB_SVN_OUT_OF_DATE = bytes([MODULE_SVN - 2, 1, 3]) + bytes(13)
TEE_TCB_SVN_REVOKED = bytes([MODULE_SVN - 4, 1, 1]) + bytes(13)

_DATES = {"UpToDate": "2026-01-01T00:00:00Z", "OutOfDate": "2025-01-01T00:00:00Z", "Revoked": "2024-01-01T00:00:00Z"}
_STATUSES = {MODULE_SVN: "UpToDate", MODULE_SVN - 2: "OutOfDate", MODULE_SVN - 4: "Revoked"}


def tcb_info(platform: Platform, issued: str, until: str) -> dict[str, Any]:
    """TCB info of TDX, version 3, of the simulated family."""
    signer = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    return {
        "id": "TDX",
        **_head(platform, issued, until),
        "tdxModule": signer,
        "tdxModuleIdentities": [
            {
                "id": "TDX_01",
                **signer,
                "tcbLevels": [_level({"isvsvn": svn}, status) for svn, status in _STATUSES.items()],
            }
        ],
        "tcbLevels": [_level(_platform_tcb(svn), status) for svn, status in _STATUSES.items()],
    }


def sgx_tcb_info(platform: Platform, issued: str, until: str) -> dict[str, Any]:
    """TCB info of SGX, version 3, of the simulated family."""
    levels = [
        _level({"sgxtcbcomponents": [{"svn": svn}] * 16, "pcesvn": PCESVN}, status) for svn, status in _STATUSES.items()
    ]
    return {"id": "SGX", **_head(platform, issued, until), "tcbLevels": levels}


def qe_identity(issued: str, until: str) -> dict[str, Any]:
    """The identity, version 2, of the simulated quoting enclave for TDs."""
    return _identity("TD_QE", QE_PRODUCT, issued, until)


def sgx_qe_identity(issued: str, until: str) -> dict[str, Any]:
    """The identity, version 2, of the simulated quoting enclave for enclaves."""
    return _identity("QE", SGX_QE_PRODUCT, issued, until)


DOCUMENTS: Mapping[str, tuple[Callable[[Platform, str, str], dict[str, Any]], Callable[[str, str], dict[str, Any]]]] = {
    "tdx": (tcb_info, qe_identity),
    "sgx": (sgx_tcb_info, sgx_qe_identity),
}
"""Kind -> how its TCB info and its QE identity are made."""


def _head(platform: Platform, issued: str, until: str) -> dict[str, Any]:
    return {
        "version": 3,
        "issueDate": issued,
        "nextUpdate": until,
        "fmspc": platform.fmspc.hex().upper(),
        "pceId": platform.pceid.hex().upper(),
        "tcbType": 0,
        "tcbEvaluationDataNumber": EVALUATION_NUMBER,
    }


def _identity(enclave: str, product: int, issued: str, until: str) -> dict[str, Any]:
    return {
        "id": enclave,
        "version": 2,
        "issueDate": issued,
        "nextUpdate": until,
        "tcbEvaluationDataNumber": EVALUATION_NUMBER,
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": QE_ATTRIBUTES.hex().upper(),
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": QE_MRSIGNER.hex().upper(),
        "isvprodid": product,
        "tcbLevels": [_level({"isvsvn": QE_SVN}, "UpToDate")],
    }


def _platform_tcb(svn: int) -> dict[str, Any]:
    return {
        "sgxtcbcomponents": [{"svn": own} for own in COMPONENTS],
        "pcesvn": PCESVN,
        "tdxtcbcomponents": [{"svn": value} for value in (svn, 0, svn, *(0,) * 13)],
    }


def _level(level: dict[str, Any], status: str) -> dict[str, Any]:
    advisories = {} if status == "UpToDate" else {"advisoryIDs": [ADVISORY]}
    return {"tcb": level, "tcbDate": _DATES[status], "tcbStatus": status, **advisories}
