"""`bench open`: what sealing and opening cost, beside copying the same bytes and beside other people's decryption.

The model is synthetic: one safetensors file of random tensors. It lies in a file system in memory where there is room for it, so
that figures are of code and not of a disk; everything read was read before. Pairs take turns, ours and the baseline.

    decrypt       AES-256-GCM, a segment at a time from buffer to buffer, as opening into a memfd does it, beside memcpy of as
                  much out of cache; CPU time of one thread
    two_threads   the same by two threads, beside one; elapsed time
    open          a sealed artifact into fresh memory, beside a plain copy of the same file into fresh memory (sendfile)
    seal          sealing, beside a plain copy that computes SHA-256 on the way
    tink          our decryption of a stream, beside PyPI's tink on the same bytes
    skopeo        opening into a folder, beside skopeo decrypting an ocicrypt layer of the same file into a folder
    memory        how much memory opening needs besides the plaintext, in MiB

Knows: how to measure. Does not know: what is good (the goals say it). The last two want programs that need not be there; what
was not measured is not in the table.
"""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from strongroom.bench.figures import Figure, Goal, figure
from strongroom.bench.peers import Ocicrypt, tink_streaming
from strongroom.crypto import segments
from strongroom.crypto.hpke import ReleaseKey
from strongroom.crypto.signatures import generate_p256, public_from_pem, public_to_pem
from strongroom.errors import Unavailable
from strongroom.records.artifact import ArtifactKind
from strongroom.sealed.open import OpenedArtifact, Opener
from strongroom.sealed.registries import DirectoryRegistry
from strongroom.sealed.seal import seal
from strongroom.sealed.wrapping import unwrap, wrap_to

Progress = Callable[[int, int], None]
MIB = 1 << 20
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (a file system in memory, used if there is room)
CACHE_MISSES = 256 * MIB
ROUNDS = 4
"""How often two threads go through it: a processor that was idle takes a while to be there."""
PART = 256 * MIB
"""How much of the model slower programs are given."""
COPY_BYTES = MIB


@dataclass(frozen=True)
class Model:
    """A plain model, sealed; `place` is where more may be written."""

    place: Path
    file: Path
    registry: DirectoryRegistry
    recipient: ReleaseKey
    signer: EllipticCurvePrivateKey

    def opened(self) -> OpenedArtifact:
        opener = Opener(self.registry, "latest", signer_public=self.signer.public_key())
        return opener.open(unwrap(opener.header, self.recipient))


def opening(*, pairs: int, mebibytes: int, progress: Progress) -> list[Figure]:
    """All figures that can be measured here. Raises `Unavailable` where there is no room for the model."""
    decryption = _Decryption()
    with _model(mebibytes * MIB) as model:
        measures: list[tuple[str, str, str, Goal, int, Callable[[], float]]] = [
            ("decrypt", "memcpy out of cache", "x", (">=", 0.8), pairs, decryption.to_memcpy),
            ("two_threads", "one thread", "x", (">=", 1.8), pairs, decryption.by_two),
            ("open", "a plain copy into fresh memory", "x", (">=", 0.85), pairs, lambda: _open(model)),
            ("seal", "a plain copy with SHA-256", "x", (">=", 0.6), max(5, pairs // 4), lambda: _seal(model)),
            ("memory", "the plaintext", "MiB more", ("<=", 64), 5, lambda: _memory(model)),
        ]
        if importlib.util.find_spec("tink") is not None:
            measures.append(("tink", "tink on the same bytes", "x", (">=", 10), max(5, pairs // 2), _tink(model)))
        if shutil.which("skopeo") is not None:
            measures.append(("skopeo", "skopeo on the same file", "x", (">=", 4), max(5, pairs // 4), _skopeo(model)))
        total, done, found = sum(runs for *_, runs, _ in measures), 0, []
        for name, baseline, unit, goal, runs, measure in measures:
            samples = []
            for _ in range(runs):
                samples.append(measure())
                done += 1
                progress(done, total)
            found.append(figure(name, samples, unit=unit, baseline=baseline, goal=goal))
    return found


@contextmanager
def _model(size: int) -> Iterator[Model]:
    """A synthetic model of about `size` bytes, and its sealed artifact."""
    wanted = 4 * size + 2 * PART
    fits = SHARED_MEMORY.is_dir() and min(_free(SHARED_MEMORY), _available_memory() - size) > wanted
    with tempfile.TemporaryDirectory(prefix="strongroom-bench-", dir=SHARED_MEMORY if fits else None) as folder:
        place = Path(folder)
        if _free(place) < wanted:
            raise Unavailable(f"{place} has no room for {wanted >> 20} MiB", remedy="Set TMPDIR, or --size.")
        plain = place / "plain"
        plain.mkdir()
        _write_model(plain / "model.safetensors", size)
        recipient, signer = ReleaseKey.generate(), generate_p256()
        registry = DirectoryRegistry(place / "sealed")
        seal(plain, registry, kind=ArtifactKind.MODEL, wrap=wrap_to([recipient.public]), signer=signer)
        yield Model(place, plain / "model.safetensors", registry, recipient, signer)


def _write_model(place: Path, size: int) -> None:
    """Tensors of 64 MiB of random F16, as many as make up `size`."""
    each = min(size, 64 * MIB)
    names = {
        f"layers.{number}.weight": {
            "dtype": "F16",
            "shape": [each // 2],
            "data_offsets": [number * each, (number + 1) * each],
        }
        for number in range(size // each)
    }
    header, block = json.dumps(names).encode(), os.urandom(each)
    with place.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for _ in names:
            file.write(block)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


class _Decryption:
    """Segments decrypted from one buffer into another, each thread with its own, as opening into a memfd does it."""

    def __init__(self) -> None:
        self._aead, self._nonce = AESGCM(bytes(32)), bytes(12)
        self._plain_bytes = segments.SEGMENT_BYTES - segments.TAG_BYTES
        self._segment = self._aead.encrypt(self._nonce, bytes(self._plain_bytes), None)
        self._source, self._target = (memoryview(bytearray(CACHE_MISSES)) for _ in range(2))

    def to_memcpy(self) -> float:
        """Its throughput over that of memcpy, in CPU time of one thread, which what else the machine does distorts least."""
        took = []
        for work in (self._copied, lambda: self._decrypted(0, 1)):
            start = time.thread_time()
            work()
            took.append(time.thread_time() - start)
        return took[0] / took[1]

    def by_two(self) -> float:
        """How much sooner two threads are done than one."""

        def share(first: int, threads: int) -> None:
            for _ in range(ROUNDS):
                self._decrypted(first, threads)

        one = _timed(lambda: share(0, 1))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(abs, (1, 2)))  # so that both threads are there
            two = _timed(lambda: list(pool.map(lambda first: share(first, 2), (0, 1))))
        return one / two

    def _copied(self) -> None:
        self._target[:] = self._source

    def _decrypted(self, first: int, threads: int) -> None:
        sealed, plain = bytearray(self._segment), memoryview(bytearray(self._plain_bytes))
        for _ in range(first, CACHE_MISSES // segments.SEGMENT_BYTES, threads):
            self._aead.decrypt_into(self._nonce, sealed, None, plain)


def _open(model: Model) -> float:
    with model.opened() as artifact:
        copied = _timed(lambda: os.close(_plain_copy(model.file)))
        opened = _timed(lambda: os.close(artifact.into_memfd("model.safetensors")))
    return copied / opened


def _plain_copy(source: Path) -> int:
    """The file in fresh memory, as `shutil.copyfile` copies on Linux."""
    target, size = os.memfd_create("copy"), source.stat().st_size
    with source.open("rb") as file:
        at = 0
        while at < size:
            at += os.sendfile(target, file.fileno(), at, size - at)
    return target


def _seal(model: Model) -> float:
    def hashed_copy() -> None:
        digest, block = sha256(), memoryview(bytearray(COPY_BYTES))
        with model.file.open("rb", buffering=0) as source, (model.place / "copy").open("wb", buffering=0) as target:
            while count := source.readinto(block):
                digest.update(block[:count])
                target.write(block[:count])
            os.fsync(target.fileno())

    def sealed() -> None:
        wrap = wrap_to([model.recipient.public])
        seal(
            model.file.parent,
            DirectoryRegistry(model.place / "again"),
            kind=ArtifactKind.MODEL,
            wrap=wrap,
            signer=model.signer,
        )

    try:
        copied = _timed(hashed_copy)
        (model.place / "copy").unlink()
        return copied / _timed(sealed)
    finally:
        shutil.rmtree(model.place / "again", ignore_errors=True)


def _memory(model: Model) -> float:
    """Peak of resident memory while a process opens the model into a memfd, less what it needed before, in MiB."""
    with model.opened() as artifact:
        key = bytes(artifact.streams._key)  # noqa: SLF001 (the child has no business with the owner's keys)
    told = subprocess.run(
        [sys.executable, "-m", "strongroom.bench.opening", str(model.registry.root)],
        input=key + public_to_pem(model.signer.public_key()),
        stdout=subprocess.PIPE,
        check=True,
    )
    return float(told.stdout)


def _tink(model: Model) -> Callable[[], float]:
    """Our decryption of a stream in memory beside tink's: ours into memory that is there, tink into what it makes itself."""
    key, aad, room = bytes(range(32)), b"bench", segments.SEGMENT_BYTES
    with model.file.open("rb") as file:
        plain = file.read(PART)
    kept = io.BytesIO()
    segments.encrypt(io.BytesIO(plain), kept, key=key, aad=aad, segment_bytes=room, random=os.urandom)
    data, theirs = kept.getvalue(), tink_streaming(key, room)

    class Held:
        def read_into(self, buffer: memoryview, offset: int, /) -> None:
            buffer[:] = data[offset : offset + len(buffer)]

    result = bytearray(len(plain))

    def ours() -> bytearray:
        stream = segments.open_stream(Held(), ciphertext_bytes=len(data), key=key, aad=aad, segment_bytes=room)
        segments.read_into(stream, memoryview(result), 0)
        return result

    def by_tink() -> bytes:
        with theirs.new_decrypting_stream(io.BytesIO(data), aad) as stream:
            return bytes(stream.read())

    if ours() != plain or by_tink() != plain:
        raise Unavailable("the two do not decrypt alike")
    return lambda: _timed(by_tink) / _timed(ours)


def _skopeo(model: Model) -> Callable[[], float]:
    """Opening the whole artifact into a folder, hashes compared, beside skopeo, which compares them too."""
    peer = Ocicrypt(model.place, model.file)
    target = model.place / "opened"

    def measure() -> float:
        try:
            theirs = _timed(peer.decrypt)
        finally:
            peer.forget()
        try:
            with model.opened() as artifact:
                return theirs / _timed(lambda: artifact.into_directory(target))
        finally:
            shutil.rmtree(target, ignore_errors=True)

    return measure


def _free(place: Path) -> int:
    return shutil.disk_usage(place).free


def _available_memory() -> int:
    return _memory_of("MemAvailable", Path("/proc/meminfo"))


def _memory_of(name: str, place: Path = Path("/proc/self/status")) -> int:
    """A line of kB in a file of /proc, in bytes; 0 where there is none."""
    for line in place.read_text("ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def main(root: str) -> None:
    """The child of `memory`: data key and public key come over standard input, the figure goes to standard output."""
    key, pem = sys.stdin.buffer.read(segments.KEY_BYTES), sys.stdin.buffer.read()
    opener = Opener(DirectoryRegistry(Path(root)), "latest", signer_public=public_from_pem(pem))
    with opener.open(key) as artifact:
        Path("/proc/self/clear_refs").write_text("5", "ascii")  # the peak begins anew (proc(5))
        before = _memory_of("VmRSS")
        os.close(artifact.into_memfd("model.safetensors"))
        print((_memory_of("VmHWM") - before) / MIB)


if __name__ == "__main__":
    main(sys.argv[1])
