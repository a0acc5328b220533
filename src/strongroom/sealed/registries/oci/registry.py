"""A registry that speaks the OCI distribution spec 1.1, behind the port.

Content is asked of the mirrors first, by its digest, and checked; tags, referrers and everything that is written go to
the registry itself. What a registry says of digests (Docker-Content-Digest) is not believed. Where it has no referrers
API, or takes a manifest with a subject without saying so (OCI-Subject), referrers are listed under the fallback tag.

Knows: manifests, tags, referrers. Does not know: HTTP (`transport`), credentials (`auth`), blobs (`blobs`).
Not covered: two who attach at the same moment where there is only the fallback tag, beyond a few attempts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any
from urllib.parse import quote

import rfc8785

from strongroom.errors import (
    FileUnreadable,
    MalformedArtifact,
    MalformedRecord,
    NotAuthorised,
    SealBroken,
    ServiceUnavailable,
    StrongroomError,
)
from strongroom.records import codec
from strongroom.records.digest import Digest, digest_bytes, is_digest
from strongroom.sealed.registries.layout import fallback_tag, is_fallback_tag, parse_index, referrers_of
from strongroom.sealed.registries.oci import credentials
from strongroom.sealed.registries.oci.address import Address, Addresses, parse_reference
from strongroom.sealed.registries.oci.blobs import RemoteBlob, Upload, has_blob, uploading
from strongroom.sealed.registries.oci.repository import PUSH, Repository
from strongroom.sealed.registries.oci.transport import Answer, Http, Trouble, follow
from strongroom.sealed.registries.port import (
    IMAGE_INDEX,
    IMAGE_MANIFEST,
    MAX_MANIFEST_BYTES,
    Descriptor,
    checked,
)

MAX_PAGES = 8
MAX_ATTACHING = 4
_OK, _CREATED, _NOT_FOUND = 200, 201, 404
_REMOVED = {200, 202, 204, _NOT_FOUND}
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_ACCEPT = {"accept": f"{IMAGE_MANIFEST}, {IMAGE_INDEX}"}


class OciRegistry:
    """One repository at one registry; may be shared by threads."""

    def __init__(
        self,
        addresses: Addresses,
        *,
        http: Http | None = None,
        environ: Mapping[str, str] = os.environ,
        helper: credentials.Helper = credentials.run_helper,
    ) -> None:
        self._http = http if http is not None else Http()

        def repository(address: Address) -> Repository:
            find = credentials.find_credentials
            return Repository(address, self._http, lambda: find(address.place, address.name, environ, helper=helper))

        self._own = repository(addresses.own)
        self._places = (*map(repository, addresses.mirrors), self._own)

    @classmethod
    def from_reference(cls, text: str, environ: Mapping[str, str] = os.environ) -> tuple[OciRegistry, str]:
        """The registry that `oci://…` names, and the tag or digest there. Raises `UsageError`."""
        addresses, reference = parse_reference(text, environ)
        return cls(addresses, environ=environ), reference

    def push_blob(self) -> AbstractContextManager[Upload]:
        return uploading(self._own)

    def push_known(self, descriptor: Descriptor) -> AbstractContextManager[Upload]:
        return uploading(self._own, descriptor)

    def has_blob(self, descriptor: Descriptor) -> bool:
        return has_blob(self._own, descriptor.digest, descriptor.size)

    def open_blob(self, digest: Digest) -> AbstractContextManager[RemoteBlob]:
        return nullcontext(RemoteBlob(self._places, digest))

    def put_manifest(self, data: bytes, *, media_type: str, tag: str | None = None) -> Digest:
        digest = digest_bytes(data)
        if tag is not None or not self._has_manifest(digest, len(data)):
            self._put(data, media_type, tag or digest)
        return digest

    def get_manifest(self, digest: Digest) -> bytes:
        for place in self._places[:-1]:
            with suppress(FileUnreadable, NotAuthorised, SealBroken, ServiceUnavailable):
                return checked(self._get(place, digest), digest)
        return checked(self._get(self._own, digest), digest)

    def resolve(self, reference: str) -> Digest:
        return Digest(reference) if is_digest(reference) else digest_bytes(self._get(self._own, reference))

    def attach(self, subject: Digest, data: bytes, *, artifact_type: str) -> Digest:
        digest = digest_bytes(data)
        answer = self._put(data, IMAGE_MANIFEST, digest)
        if "oci-subject" not in answer.headers:
            self._list(subject, {**Descriptor.of(IMAGE_MANIFEST, data).to_json(), "artifactType": artifact_type})
        return digest

    def referrers(self, subject: Digest, artifact_type: str) -> tuple[Digest, ...]:
        return referrers_of(self._by_api(subject, artifact_type) or self._by_tag(subject), artifact_type)

    def discard(self, digests: tuple[Digest, ...]) -> None:
        for digest in digests:
            for kind in ("manifests", "blobs"):
                with suppress(StrongroomError, Trouble):  # what failed before is what matters
                    self._own.once("DELETE", self._own.url(f"{kind}/{digest}"), scope=f"{PUSH},delete")

    def named(self) -> tuple[Digest, ...]:
        url, found = self._own.url("tags/list"), []
        for _ in range(MAX_PAGES):
            answer = self._own.ask("GET", url, limit=MAX_MANIFEST_BYTES)
            if answer.status != _OK:
                self._own.refuse(answer, "a list of tags")
            found += tags_of(answer.body)
            url = next_page(answer)
            if not url:
                return tuple(dict.fromkeys(self.resolve(tag) for tag in found if not is_fallback_tag(tag)))
        raise MalformedArtifact(f"a list of tags has more than {MAX_PAGES} pages")

    def forget(self, digest: Digest) -> None:
        listing = None
        with suppress(FileUnreadable):
            listing = self.resolve(fallback_tag(digest))
        for gone in (digest, listing):
            if gone is None:
                continue
            answer = self._own.ask("DELETE", self._own.url(f"manifests/{gone}"), scope=f"{PUSH},delete")
            if answer.status not in _REMOVED:
                self._own.refuse(answer, f"a way to remove the manifest {gone}")

    @property
    def remains(self) -> tuple[str, ...]:
        kept = "the registry's storage, until its garbage is collected; its replicas and backups"
        mirrors = [place.address.place for place in self._places[:-1]]
        return (kept, *([f"mirrors: {', '.join(mirrors)}"] if mirrors else []))

    def _has_manifest(self, digest: Digest, size: int) -> bool:
        answer = self._own.ask("HEAD", self._own.url(f"manifests/{digest}"), headers=_ACCEPT)
        return answer.status == _OK and answer.headers.get("content-length", str(size)) == str(size)

    def _put(self, data: bytes, media_type: str, reference: str) -> Answer:
        url = self._own.url(f"manifests/{reference}")
        answer = self._own.ask("PUT", url, scope=PUSH, headers={"content-type": media_type}, content=data)
        if answer.status != _CREATED:
            self._own.refuse(answer, f"a place for the manifest {reference!r}")
        return answer

    def _get(self, place: Repository, reference: str) -> bytes:
        answer = place.ask("GET", place.url(f"manifests/{reference}"), headers=_ACCEPT, limit=MAX_MANIFEST_BYTES)
        if answer.status != _OK:
            place.refuse(answer, f"manifest {reference!r}")
        return answer.body

    def _by_api(self, subject: Digest, artifact_type: str) -> list[dict[str, Any]]:
        """What the referrers API lists, if there is one."""
        url = self._own.url(f"referrers/{subject}?artifactType={quote(artifact_type, safe='')}")
        entries: list[dict[str, Any]] = []
        for _ in range(MAX_PAGES):
            answer = self._own.ask("GET", url, headers={"accept": IMAGE_INDEX}, limit=MAX_MANIFEST_BYTES)
            if answer.status == _NOT_FOUND:
                return entries
            if answer.status != _OK:
                self._own.refuse(answer, "a list of referrers")
            if answer.headers.get("content-type", "").partition(";")[0].strip() != IMAGE_INDEX:
                return entries  # a page of something else, which answers every address
            entries += parse_index(answer.body)
            url = next_page(answer)
            if not url:
                return entries
        raise MalformedArtifact(f"a list of referrers has more than {MAX_PAGES} pages")

    def _by_tag(self, subject: Digest) -> list[dict[str, Any]]:
        """What the fallback tag lists, if there is one (spec, section Referrers Tag Schema)."""
        try:
            return parse_index(self._get(self._own, fallback_tag(subject)))
        except FileUnreadable:
            return []

    def _list(self, subject: Digest, entry: dict[str, Any]) -> None:
        """Put `entry` into the list under the fallback tag; again, where somebody else put another there meanwhile."""
        for _ in range(MAX_ATTACHING):
            entries = self._by_tag(subject)
            if entry in entries:
                return
            kept = [item for item in entries if item.get("digest") != entry["digest"]]
            listing = rfc8785.dumps({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": [*kept, entry]})
            self._put(listing, IMAGE_INDEX, fallback_tag(subject))
        raise ServiceUnavailable(f"{self._own.address.place} does not keep a list of referrers", detail=subject)


def tags_of(body: bytes) -> list[str]:
    """The tags in an answer of `tags/list`. Raises `MalformedArtifact`."""
    try:
        value = codec.parse_json(body, limit=MAX_MANIFEST_BYTES)
    except MalformedRecord as error:
        raise MalformedArtifact(f"a list of tags does not parse: {error.message}") from None
    tags = value.get("tags") if isinstance(value, dict) else None
    tags = [] if tags is None else tags
    if not isinstance(tags, list) or not all(isinstance(tag, str) and _TAG.fullmatch(tag) for tag in tags):
        raise MalformedArtifact("this is not a list of tags")
    return tags


def next_page(answer: Answer) -> str:
    """Where a list goes on (RFC 8288, relation `next`), or an empty text. Raises `ServiceUnavailable`."""
    stated = answer.headers.get("link", "")
    if not stated:
        return ""
    target, closed, relation = stated.partition(">")
    if not target.startswith("<") or not closed or 'rel="next"' not in relation.replace(" ", ""):
        return ""
    answer.headers["location"] = target[1:]
    return follow(answer)
