"""One repository at one registry: requests that are let in, repeated where that helps, and refusals by their name.

Knows: what the statuses of the distribution spec 1.1 mean (section Error Codes). Does not know: blobs or manifests.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NoReturn

from strongroom.errors import FileUnreadable, MalformedRecord, ServiceUnavailable, StoreUnavailable
from strongroom.records import codec
from strongroom.sealed.registries.oci.address import Address
from strongroom.sealed.registries.oci.auth import Authoriser, Find
from strongroom.sealed.registries.oci.transport import Answer, Http, Patience, Target

MAX_ERROR_BYTES = 64 * 1024
PULL, PUSH = "pull", "pull,push"
_UNAUTHORISED, _FORBIDDEN, _NOT_FOUND, _TOO_LARGE, _FULL = 401, 403, 404, 413, 507
_CODE = re.compile(r"[A-Z][A-Z_]{0,63}")


class Repository:
    """Where requests go. May be shared by threads."""

    def __init__(self, address: Address, http: Http, find: Find) -> None:
        self.address, self._http = address, http
        self._auth = Authoriser(address, http, find)

    def url(self, path: str) -> str:
        """The address of something in this repository, such as `manifests/latest`."""
        return f"{self.address.base}/{path}"

    def patience(self) -> Patience:
        return self._http.patience(self.address.place)

    def once(
        self,
        method: str,
        url: str,
        *,
        scope: str = PULL,
        headers: Mapping[str, str] | None = None,
        content: bytes | memoryview = b"",
        limit: int = MAX_ERROR_BYTES,
        target: Target | None = None,
        wait: float | None = None,
    ) -> Answer:
        """One exchange, with credentials where they are asked for. Raises `Trouble`, `NotAuthorised` and others."""
        for attempt in range(2):
            authorise = self._auth.header_for(scope)
            answer = self._http.once(
                method,
                url,
                limit=limit,
                authorise=authorise,
                headers=headers,
                content=content,
                target=target,
                wait=wait,
            )
            if answer.status not in {_UNAUTHORISED, _FORBIDDEN}:
                break
            if answer.status == _FORBIDDEN or attempt or not self._auth.is_own(answer.url):
                raise self._auth.refusal(answer)
            self._auth.answer(answer, scope, authorise(self.address.origin))
        return answer

    def ask(
        self,
        method: str,
        url: str,
        *,
        scope: str = PULL,
        headers: Mapping[str, str] | None = None,
        content: bytes | memoryview = b"",
        limit: int = MAX_ERROR_BYTES,
    ) -> Answer:
        """`once`, again after each trouble, until patience ends. Raises `ServiceUnavailable` and what `once` raises."""
        return self._http.patiently(
            self.address.place,
            lambda: self.once(method, url, scope=scope, headers=headers, content=content, limit=limit),
            str(self.address),
        )

    def missing(self, what: str) -> FileUnreadable:
        """The error for something that is not here."""
        return FileUnreadable(f"{self.address} has no {what}", remedy="Check the reference and its tag or digest.")

    def refuse(self, answer: Answer, what: str) -> NoReturn:
        """Raise the error for an answer that is not the one that was wanted; `what` was asked for."""
        if answer.status == _NOT_FOUND:
            raise self.missing(what)
        if answer.status in {_TOO_LARGE, _FULL}:
            raise StoreUnavailable(f"{self.address.place} has no room for {what}", remedy="Ask who runs the registry.")
        raise ServiceUnavailable(
            f"{self.address.place} answered {answer.status} where {what} was asked for",
            remedy="Check that this is a registry which keeps OCI artifacts.",
            detail=code_of(answer.body),
        )


def code_of(body: bytes) -> str:
    """The registry's own code for an error (spec, section Error Codes), or an empty text; its sentences are not told."""
    try:
        value = codec.parse_json(body, limit=MAX_ERROR_BYTES)
        code = value["errors"][0]["code"]
        return code if isinstance(code, str) and _CODE.fullmatch(code) else ""
    except (MalformedRecord, LookupError, TypeError):
        return ""
