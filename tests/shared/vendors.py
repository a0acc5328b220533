"""Vendors' services on this machine: they answer with a simulator's collateral, well, or as badly as a test wants."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

from cryptography.hazmat.primitives.serialization import Encoding

from strongroom.records.evidence import IntelCollateral
from strongroom.services.server import BackgroundServer
from strongroom_sim import Installation
from strongroom_sim.ca import sign_raw
from strongroom_sim.snp import SnpInstallation

JSON, CRL, PEM = "application/json", "application/pkix-crl", "application/x-pem-file"
FMSPC = "73696d000000"


@dataclass(frozen=True)
class Reply:
    """One answer; the length is told unless `chunked`."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    chunked: bool = False


@dataclass
class Service:
    """An ASGI application: answers by target (path and query), and what it was asked.

    `answers` may be a reply or a function of how often this target was asked before. `before` runs ahead of each answer.
    """

    answers: dict[str, Reply | Callable[[int], Reply]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    before: Callable[[], None] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002 (ASGI)
        query = scope["query_string"].decode()
        target = scope["path"] + (f"?{query}" if query else "")
        times = self.seen.count(target)
        self.seen.append(target)
        self.headers.append({name.decode().lower(): value.decode() for name, value in scope["headers"]})
        if self.before is not None:
            self.before()
        answer = self.answers.get(target, Reply(b"{}", 404, {"content-type": JSON}))
        reply = answer if isinstance(answer, Reply) else answer(times)
        headers = [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
        if not reply.chunked:
            headers.append((b"content-length", str(len(reply.body)).encode()))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body})


@contextmanager
def served(service: Any) -> Iterator[str]:
    """The address at which a service is served."""
    with BackgroundServer(service) as server:
        yield server.url


def resigned(installation: Installation, text: str, **changes: Any) -> tuple[str, bytes]:
    """A document of Intel's with members changed, signed anew by the same signer."""
    changed = json.dumps(json.loads(text) | changes, separators=(",", ":"))
    return changed, sign_raw(installation.keys["tcb-signing"], changed.encode())


def renumbered(installation: Installation, collateral: IntelCollateral, number: int) -> IntelCollateral:
    """The same collateral under another evaluation number."""
    tcb_info, tcb_signature = resigned(installation, collateral.tcb_info, tcbEvaluationDataNumber=number)
    identity, identity_signature = resigned(installation, collateral.qe_identity, tcbEvaluationDataNumber=number)
    return replace(
        collateral,
        tcb_info=tcb_info,
        tcb_info_signature=tcb_signature,
        qe_identity=identity,
        qe_identity_signature=identity_signature,
    )


def document(member: str, text: str, signature: bytes) -> bytes:
    """The body in which PCS sends a signed document."""
    return f'{{"{member}":{text},"signature":"{signature.hex()}"}}'.encode()


def signed_reply(member: str, text: str, signature: bytes, header: str, chain: str) -> Reply:
    """A signed document of Intel's as PCS answers it."""
    return Reply(document(member, text, signature), 200, {"content-type": JSON, header: quote(chain)})


def intel(collateral: IntelCollateral, *, kind: str = "tdx", fmspc: str = FMSPC, track: str = "update=standard",
          ca: str = "platform") -> dict[str, Reply]:  # fmt: skip
    """What a PCCS answers, of this collateral."""
    base = f"/{kind}/certification/v4"
    return {
        f"{base}/tcb?fmspc={fmspc}&{track}": signed_reply(
            "tcbInfo", collateral.tcb_info, collateral.tcb_info_signature, "TCB-Info-Issuer-Chain",
            collateral.tcb_info_chain,
        ),
        f"{base}/qe/identity?{track}": signed_reply(
            "enclaveIdentity", collateral.qe_identity, collateral.qe_identity_signature,
            "SGX-Enclave-Identity-Issuer-Chain", collateral.qe_identity_chain,
        ),
        f"/sgx/certification/v4/pckcrl?ca={ca}&encoding=der": Reply(
            collateral.pck_crl, 200, {"content-type": CRL, "SGX-PCK-CRL-Issuer-Chain": quote(collateral.pck_crl_chain)}
        ),
        "/sgx/certification/v4/rootcacrl": Reply(
            collateral.root_ca_crl.hex().encode(), 200, {"content-type": PEM}
        ),
    }  # fmt: skip


def numbers(installation: Installation, now: int, listed: tuple[int, ...], kind: str = "tdx") -> dict[str, Reply]:
    """Intel's list of evaluation numbers."""

    def moment(seconds: int) -> str:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    text = json.dumps(
        {
            "id": kind.upper(), "version": 1, "issueDate": moment(now - 60), "nextUpdate": moment(now + 86_400),
            "tcbEvalNumbers": [
                {
                    "tcbEvaluationDataNumber": number,
                    "tcbRecoveryEventDate": moment(now - 1000 * (100 - number)),
                    "tcbDate": moment(now - 1000 * (100 - number)),
                }
                for number in listed
            ],
        }
    )  # fmt: skip
    signature = sign_raw(installation.keys["tcb-signing"], text.encode())
    chain = installation.collateral(now).tcb_info_chain
    header = "TCB-Evaluation-Data-Numbers-Issuer-Chain"
    target = f"/{kind}/certification/v4/tcbevaluationdatanumbers"
    return {target: signed_reply("tcbEvaluationDataNumbers", text, signature, header, chain)}


def amd(installation: SnpInstallation, now: int, leaves: Mapping[str, bytes] | None = None) -> dict[str, Reply]:
    """What KDS answers: chains and CRLs of both signers, and `leaves` (DER) by what follows the product."""
    product = installation.product
    found = {f"/vcek/v1/{product}/{target}": Reply(leaf) for target, leaf in (leaves or {}).items()}
    for signer, role in (("vcek", "ask"), ("vlek", "asvk")):
        chain = installation.chain(role).replace("\n", "\r\n").encode()  # as KDS writes some
        found[f"/{signer}/v1/{product}/cert_chain"] = Reply(chain, 200, {"content-type": PEM})
        found[f"/{signer}/v1/{product}/crl"] = Reply(installation.crl(now), 200, {"content-type": CRL})
    return found


def der(certificate: Any) -> bytes:
    """A certificate's bytes."""
    return certificate.public_bytes(Encoding.DER)


@contextmanager
def raw_server(*scripts: bytes | Callable[[socket.socket], None]) -> Iterator[tuple[str, list[bytes]]]:
    """A server that takes one request a connection, answers with the next script (the last again and again), and closes.

    Gives its address, and the requests as they came.
    """
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stop = threading.Event()

        def serve() -> None:
            count = 0
            while not stop.is_set():
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    try:
                        head = connection.recv(65536)
                        requests.append(head)
                        script = scripts[min(count, len(scripts) - 1)]
                        count += 1
                        connection.sendall(script) if isinstance(script, bytes) else script(connection)
                    except OSError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", requests
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
