"""One witness, as a broker asks it: `add-checkpoint` over HTTP (C2SP tlog-witness v1.0.0, section add-checkpoint).

Knows: the request, and what each status of the answer means. Does not know: rounds, or how many are enough (`witnesses`).
An answer is foreign: of bounded size, within a bounded time, and a line counts only once its signature holds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import httpx2

from strongroom.errors import LogSetBack, MalformedRecord, ServiceUnavailable, UsageError
from strongroom.receipts.cosignature import Witness, pick_line
from strongroom.receipts.note import parse_note
from strongroom.receipts.witness import SIZE_TYPE, add_checkpoint_body, parse_size

MAX_ANSWER_BYTES = 64 * 1024
ASK_SECONDS = 5.0
TIMEOUT = httpx2.Timeout(ASK_SECONDS, connect=2.0)


@dataclass(frozen=True, slots=True)
class Seat:
    """Where a witness is asked (its submission prefix), and who it must be."""

    url: str
    witness: Witness

    @classmethod
    def parse(cls, text: str) -> Self:
        """A seat written `URL=VKEY`. Raises `UsageError`, `MalformedRecord`."""
        url, equals, key = text.rpartition("=")  # the key is base64 of 33 bytes, and so has no equals sign
        if not equals or not url.startswith(("http://", "https://")):
            raise UsageError("this is not a witness", remedy="Write URL=VKEY, as `strongroom log witness` prints them.")
        return cls(url.rstrip("/"), Witness.parse(key))


@dataclass(frozen=True, slots=True)
class Conflict:
    """The witness holds the state of `size` entries, and not the one that was named."""

    size: int


class WitnessLink:
    """The connection to one seat, used by one thread at a time. Raises `UsageError` for an address that is none."""

    def __init__(self, seat: Seat, *, transport: httpx2.BaseTransport | None = None) -> None:
        self._witness = seat.witness
        try:
            self._url = httpx2.URL(f"{seat.url}/add-checkpoint")
        except (httpx2.InvalidURL, ValueError):
            raise UsageError("this is not the address of a witness", detail=seat.witness.name) from None
        self._http = httpx2.Client(timeout=TIMEOUT, transport=transport, trust_env=False)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def ask(self, old: int, path: Sequence[bytes], checkpoint: str) -> str | Conflict:
        """The witness's signature line on the note `checkpoint`, or the size that it holds instead of `old`.

        Raises `LogSetBack` where the log does not extend what the witness saw, `LogInvalid` or `MalformedRecord` where its
        answer is not one, `ServiceUnavailable` where there is none.
        """
        status, kind, answer = self._post(add_checkpoint_body(old, path, checkpoint))
        if status == 200:  # noqa: PLR2004 (the statuses of the specification)
            try:
                lines = answer.decode("utf-8")
            except UnicodeDecodeError:
                raise MalformedRecord("the witness's answer is not text") from None
            return pick_line(parse_note(checkpoint)[0], lines, self._witness)
        if status == 409 and kind == SIZE_TYPE:  # noqa: PLR2004
            return Conflict(parse_size(answer))
        if status == 422:  # noqa: PLR2004
            raise LogSetBack("the log does not extend what a witness saw of it", detail=self._witness.name)
        raise ServiceUnavailable(f"the witness answered with status {status}", detail=self._witness.name)

    def _post(self, body: bytes) -> tuple[int, str, bytes]:
        deadline = time.monotonic() + ASK_SECONDS
        headers = {"content-type": "text/plain; charset=utf-8", "accept-encoding": "identity"}
        answer = bytearray()
        try:
            with self._http.stream("POST", self._url, content=body, headers=headers) as response:
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise MalformedRecord("the witness's answer is in an encoding that was not asked for")
                for part in response.iter_bytes():
                    answer += part
                    if len(answer) > MAX_ANSWER_BYTES:
                        raise MalformedRecord(f"the witness's answer exceeds {MAX_ANSWER_BYTES} bytes")
                    if time.monotonic() > deadline:
                        raise ServiceUnavailable("the witness is too slow", detail=self._witness.name)
                return response.status_code, response.headers.get("content-type", ""), bytes(answer)
        except (httpx2.HTTPError, RuntimeError) as error:  # RuntimeError: the connection was closed meanwhile
            raise ServiceUnavailable(
                f"the witness does not answer ({type(error).__name__})", detail=self._witness.name
            ) from None
