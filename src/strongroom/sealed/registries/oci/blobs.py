"""Blobs of a registry: read by ranges from several threads, written in chunks that go on after a broken connection.

Specification: distribution spec 1.1, sections Pulling blobs and Pushing a blob in chunks; RFC 9110 section 14 (ranges). A
range is taken only if status, Content-Range and length are exactly what was asked for. A server that knows no ranges
gives small blobs whole; of large ones it gives nothing that can be used.

Knows: ranges, upload sessions. Does not know: manifests. Not covered: uploads that outlive their process, mounting blobs
of other repositories, registries that take a blob only in one piece.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx2

from strongroom.errors import FileUnreadable, NotAuthorised, SealBroken, ServiceUnavailable, StrongroomError
from strongroom.records.digest import Digest
from strongroom.sealed.registries.oci.repository import PUSH, Repository, code_of
from strongroom.sealed.registries.oci.transport import Answer, Trouble, follow, with_query
from strongroom.sealed.registries.port import MAX_OBJECT_BYTES, REMOTE_LANES, Descriptor, UploadLost, check_expected

T = TypeVar("T")

CHUNK_BYTES = 4 * 1024 * 1024
MAX_CHUNK_BYTES = 64 * 1024 * 1024
MAX_WHOLE_BYTES = 16 * 1024 * 1024
LEAST_WAIT, HASHING_SPEED = 60.0, 50_000_000.0
"""A registry may read a whole blob again before it confirms it: seconds, bytes a second."""

OCTETS = "application/octet-stream"
_OK, _CREATED, _ACCEPTED, _NO_CONTENT, _PARTIAL, _BAD, _NOT_FOUND, _RANGE = 200, 201, 202, 204, 206, 400, 404, 416
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,16})-([0-9]{1,16})/([0-9]{1,16})")
_TAKEN = re.compile(r"(?:bytes=)?0-([0-9]{1,16})")
_NUMBER = re.compile(r"[0-9]{1,16}")
_TRY_ANOTHER = FileUnreadable, NotAuthorised, SealBroken, ServiceUnavailable


class RemoteBlob:
    """A blob at the first of `places` that has it; the others are asked where that one fails later."""

    lanes: int | None = REMOTE_LANES

    def __init__(self, places: Sequence[Repository], digest: Digest) -> None:
        self._places, self._digest = list(places), digest
        self._whole: memoryview | None = None
        self._lock = threading.Lock()
        self.size = self._first(lambda place: size_of(place, digest))

    def read_into(self, buffer: memoryview, offset: int, /) -> None:
        if offset + len(buffer) > self.size:
            raise SealBroken("a blob ends before its size", detail=self._where(offset))
        whole = self._whole
        if whole is None and buffer:
            whole = self._first(lambda place: self._read(place, buffer, offset))
        if whole is not None:
            buffer[:] = whole[offset : offset + len(buffer)]

    def _first(self, act: Callable[[Repository], T]) -> T:
        """`act` at the first place where it succeeds. Raises the last place's error, which is the registry itself."""
        while True:
            place = self._places[0]
            try:
                return act(place)
            except _TRY_ANOTHER:
                if not self._leave(place):
                    raise

    def _leave(self, place: Repository) -> bool:
        """Never ask `place` again. False if there is no other."""
        with self._lock:
            if self._places[0] is place and len(self._places) > 1:
                del self._places[0]
            return self._places[0] is not place

    def _read(self, place: Repository, buffer: memoryview, offset: int) -> memoryview | None:
        """Fill `buffer`; or, from a server without ranges, return a small blob as a whole."""
        where, last = self._where(offset), offset + len(buffer) - 1
        room: list[memoryview] = []

        def target(status: int, headers: httpx2.Headers) -> memoryview | None:
            if status == _PARTIAL:
                check_range(headers, (offset, last, self.size), where)
                return buffer
            if status != _OK:
                return None
            check_length(headers, self.size, where)
            if len(buffer) == self.size:
                return buffer
            room[:] = [self._room(place)]
            return room[0]

        patience, url = place.patience(), place.url(f"blobs/{self._digest}")
        while True:
            try:
                answer = place.once("GET", url, headers={"range": f"bytes={offset}-{last}"}, target=target)
                break
            except SealBroken as error:
                raise SealBroken(error.message, detail=where) from None
            except Trouble as trouble:
                patience.wait(trouble, where)
        if answer.status == _RANGE:
            raise SealBroken("a blob ends before its size", detail=where)
        if answer.status not in {_OK, _PARTIAL}:
            place.refuse(answer, f"blob {self._digest}")
        if room and answer.status == _OK:
            self._whole = room[0]
        return self._whole

    def _room(self, place: Repository) -> memoryview:
        if self.size > MAX_WHOLE_BYTES:
            raise ServiceUnavailable(
                f"{place.address.place} gives blobs only as a whole, which is too much for {self.size} bytes",
                remedy="Use a registry, or a mirror, that serves ranges (RFC 9110 section 14).",
                detail=self._digest,
            )
        return memoryview(bytearray(self.size))

    def _where(self, offset: int) -> str:
        return f"{self._digest} at byte {offset}"


def size_of(place: Repository, digest: Digest) -> int:
    """The size that a registry says a blob has. Raises `FileUnreadable` if there is none."""
    url = place.url(f"blobs/{digest}")
    answer = place.ask("HEAD", url)
    stated = answer.headers.get("content-length", "")
    if answer.status == _OK and not stated:  # some proxies drop it
        answer = place.ask("GET", url, headers={"range": "bytes=0-0"})
        found = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        stated = found[3] if found is not None and answer.status == _PARTIAL else ""
    elif answer.status != _OK:
        place.refuse(answer, f"blob {digest}")
    if _NUMBER.fullmatch(stated) is None or int(stated) > MAX_OBJECT_BYTES:
        raise ServiceUnavailable(f"{place.address.place} does not say how long a blob is", detail=digest)
    return int(stated)


def has_blob(place: Repository, digest: Digest, size: int) -> bool:
    """Whether a registry says it has this blob, in this size."""
    try:
        return size_of(place, digest) == size
    except FileUnreadable:
        return False


def check_range(headers: httpx2.Headers, wanted: tuple[int, int, int], where: str) -> None:
    """Raises `SealBroken` unless a partial answer is of exactly this first byte, last byte and size of the whole."""
    stated = headers.get("content-range", "")
    found = _CONTENT_RANGE.fullmatch(stated)
    if found is None or tuple(map(int, found.groups())) != wanted:
        raise SealBroken("a registry sent another part of a blob than it was asked for", detail=where)
    check_length(headers, wanted[1] - wanted[0] + 1, where)


def check_length(headers: httpx2.Headers, wanted: int, where: str) -> None:
    """Raises `SealBroken` where an answer announces another length than this."""
    stated = headers.get("content-length")
    if stated is not None and (_NUMBER.fullmatch(stated) is None or int(stated) != wanted):
        raise SealBroken("a registry announced another length than it was asked for", detail=where)


@dataclass(slots=True)
class Upload:
    """A blob on its way into a registry. What is small goes at once, what is large in chunks to an upload session."""

    _place: Repository
    _expected: Descriptor | None = None
    size: int = 0
    _hash: Any = field(default_factory=hashlib.sha256)
    _chunk: int = CHUNK_BYTES
    _held: bytearray = field(default_factory=bytearray)
    _sent: int = 0
    _session: str | None = None

    def write(self, data: memoryview | bytes, /) -> None:
        view = memoryview(data)
        self._hash.update(view)
        self.size += len(view)
        while view:
            room = self._chunk - len(self._held)
            self._held += view[:room]
            view = view[room:]
            if len(self._held) == self._chunk:
                if self._session is None:
                    self._begin()
                if len(self._held) >= self._chunk:  # the registry may want larger ones
                    self._send()

    def commit(self) -> tuple[Digest, int]:
        digest = Digest("sha256:" + self._hash.hexdigest())
        check_expected(self._expected, digest, self.size)
        if self._session is None:
            self._at_once(digest)
        else:
            self._send()
            self._finish(digest)
        self._session = None
        return digest, self.size

    def cancel(self) -> None:
        """Tell the registry that nothing more will come, if it still waits."""
        if self._session is not None:
            with suppress(StrongroomError, Trouble):
                self._place.once("DELETE", self._session, scope=PUSH)

    def _begin(self) -> None:
        answer = self._place.ask("POST", self._place.url("blobs/uploads/"), scope=PUSH)
        self._session = self._session_of(answer)
        least = answer.headers.get("oci-chunk-min-length", "0")
        if _NUMBER.fullmatch(least) is None or int(least) > MAX_CHUNK_BYTES:
            raise ServiceUnavailable(f"{self._place.address.place} wants chunks of more than {MAX_CHUNK_BYTES} bytes")
        self._chunk = max(self._chunk, int(least))

    def _at_once(self, digest: Digest) -> None:
        if has_blob(self._place, digest, self.size):
            return
        patience = self._place.patience()
        while True:
            try:
                opened = self._place.once("POST", self._place.url("blobs/uploads/"), scope=PUSH)
                if self._put(self._session_of(opened), digest, bytes(self._held)):
                    return
                raise Trouble("forgot an upload")  # noqa: TRY301 (patience is the same for both)
            except Trouble as trouble:
                patience.wait(trouble, digest)

    def _send(self) -> None:
        """Send all that is held; after a broken connection, what the registry says it lacks."""
        first, end = self._sent, self._sent + len(self._held)
        patience = self._place.patience()
        while self._sent < end:
            try:
                self._patch(bytes(self._held[self._sent - first :]))
            except Trouble as trouble:
                patience.wait(trouble, f"byte {self._sent} of an upload")
                self._sent = self._where_it_stands(first, end)
        self._held.clear()

    def _patch(self, data: bytes) -> None:
        end = self._sent + len(data)
        headers = {"content-type": OCTETS, "content-range": f"{self._sent}-{end - 1}"}
        answer = self._place.once("PATCH", str(self._session), scope=PUSH, headers=headers, content=data)
        if answer.status == _RANGE:
            raise Trouble("would not go on with an upload")
        if answer.status == _NOT_FOUND:
            raise self._lost()
        self._session = self._session_of(answer)
        if taken_of(answer) not in {None, end}:
            raise Trouble("took only a part of a chunk")
        self._sent = end

    def _where_it_stands(self, first: int, end: int) -> int:
        """How many bytes the registry has. Raises `UploadLost` where that cannot be, or the session is gone."""
        answer = self._place.ask("GET", str(self._session), scope=PUSH)
        taken = taken_of(answer) if answer.status == _NO_CONTENT else None
        if taken is None or not first <= taken <= end:
            raise self._lost()
        if answer.headers.get("location"):
            self._session = follow(answer)
        return taken

    def _finish(self, digest: Digest) -> None:
        patience = self._place.patience()
        while True:
            try:
                done = self._put(str(self._session), digest, b"")
                break
            except Trouble as trouble:
                patience.wait(trouble, digest)
                if has_blob(self._place, digest, self.size):
                    return
        if not done and not has_blob(self._place, digest, self.size):
            raise self._lost()

    def _put(self, session: str, digest: Digest, data: bytes) -> bool:
        """Close a session with what is left. False if the registry does not know it."""
        url = with_query(session, digest=digest)
        wait = LEAST_WAIT + self.size / HASHING_SPEED
        headers = {"content-type": OCTETS}
        answer = self._place.once("PUT", url, scope=PUSH, headers=headers, content=data, wait=wait)
        if answer.status == _BAD and code_of(answer.body) == "DIGEST_INVALID":
            raise SealBroken("a registry received other bytes than were sent", detail=digest)
        if answer.status not in {_CREATED, _NOT_FOUND}:
            self._place.refuse(answer, f"an upload of {digest}")
        return answer.status == _CREATED

    def _session_of(self, answer: Answer) -> str:
        if answer.status == _NOT_FOUND:
            raise self._place.missing("place for uploads: it does not exist, or nobody may write to it")
        if answer.status != _ACCEPTED:
            self._place.refuse(answer, "an upload")
        return follow(answer)

    def _lost(self) -> UploadLost:
        return UploadLost(
            f"{self._place.address.place} forgot an upload after {self._sent} bytes",
            remedy="Start again. Over a bad line seal into a folder, and copy that: whole layers are then not sent twice.",
        )


def taken_of(answer: Answer) -> int | None:
    """How many bytes of an upload the registry says it has; None if it says nothing that means anything."""
    found = _TAKEN.fullmatch(answer.headers.get("range", ""))
    if found is None:
        return None
    return int(found[1]) + 1 if int(found[1]) else 0  # nothing, too, is written 0-0


@contextmanager
def uploading(place: Repository, expected: Descriptor | None = None) -> Iterator[Upload]:
    """An upload that is cancelled unless it was committed."""
    upload = Upload(place, expected)
    try:
        yield upload
    finally:
        upload.cancel()
