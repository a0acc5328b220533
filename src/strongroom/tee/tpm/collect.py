"""On a machine with a TPM: quotes, the run-time register, the firmware's event log, and the TPM's side of an enrolment.

Knows: which keys and registers are used, and when a quote must be asked for again. Does not know: who serves the device; a
simulated TPM serves the same commands in a directory of its own. There is no fallback: without a TPM every call ends in
`DeviceUnavailable`. Each call opens the device for itself, so the kernel cleans up behind it whatever happens.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from strongroom.errors import DeviceUnavailable, MalformedEvidence, UsageError
from strongroom.records import codec
from strongroom.records.tpm import TpmQuote
from strongroom.tee.tpm.commands import AK_ECC, EK_ECC, EK_RSA, Commands
from strongroom.tee.tpm.credential import Credential
from strongroom.tee.tpm.device import DEVICE, Transport, open_device
from strongroom.tee.tpm.parse import PCR_COUNT, Attest, parse_attest

EVENT_LOG = Path("sys/kernel/security/tpm0/binary_bios_measurements")
MAX_LOG_BYTES = 1024 * 1024
MAX_QUALIFYING_BYTES = 64
BANK = "sha256"
RUNTIME_REGISTER = 15
RESETTABLE = frozenset({16, 23})
"""Registers that anybody may reset (TCG PC Client Platform TPM Profile, PCR attributes): they prove nothing."""
REGISTERS = tuple(index for index in range(PCR_COUNT) if index not in RESETTABLE)
MEASUREMENT_BYTES = 32
ATTEMPTS = 5

EK_CERTIFICATES = {"rsa": (0x01C00002, EK_RSA), "ecc": (0x01C0000A, EK_ECC)}
"""Where the EK's certificate lies (TCG EK Credential Profile 2.6, section 2.2.1.4), and the template of its key."""
GOOGLE_AK = {"rsa": (0x01C10000, 0x01C10001), "ecc": (0x01C10002, 0x01C10003)}
"""Where Google's virtual TPMs keep the certificate of an AK, and its template."""


def detect(root: Path = Path("/")) -> str | None:
    """`tpm` if the kernel below `root` offers one, or None. Nothing stands in for it."""
    return "tpm" if (root / DEVICE).exists() else None


class Collector:
    """The TPM of this machine. May be shared by threads: calls wait for each other."""

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        timeout: float = 30.0,
        ak: str = "own",
        connect: Callable[[], Transport] | None = None,
    ) -> None:
        """`root` is where the kernel's file systems are mounted; `timeout` bounds each command, in seconds.

        `ak` is the attestation key: `own`, to be enrolled, or `google-rsa` or `google-ecc`, which Google certified.
        `connect` reaches a TPM that is not below `root`. Raises `UsageError`.
        """
        if ak not in {"own", "google-rsa", "google-ecc"}:
            raise UsageError(f"an attestation key {ak[:32]!r}; own, google-rsa and google-ecc are known")
        self._log = root / EVENT_LOG
        self._ak, self._lock = ak, threading.Lock()
        self._connect = connect or (lambda: open_device(root, timeout=timeout))

    def quote(self, qualifying: bytes, registers: Sequence[int] = REGISTERS) -> bytes:
        """A quote over `qualifying` (at most 64 bytes) and SHA-256 registers: the record of kind `tpm`.

        Registers may change between being read and being quoted; what does not fit together is asked for again, a few
        times. Raises `DeviceUnavailable`.
        """
        if not qualifying or len(qualifying) > MAX_QUALIFYING_BYTES:
            raise UsageError(f"qualifying data of {len(qualifying)} bytes where 1 to {MAX_QUALIFYING_BYTES} are needed")
        if not registers or not set(registers) <= set(range(PCR_COUNT)):
            raise UsageError("a quote over no register, or over one that there is not")
        with self._commands() as tpm:
            ak = tpm.create_primary(self._template(tpm))
            try:
                for _ in range(ATTEMPTS):
                    values = _read_all(tpm, registers)
                    attest, signature = tpm.quote(ak.handle, qualifying, BANK, registers)
                    if _fits(parse_attest(attest), qualifying, values):
                        shown = {str(index): value.hex() for index, value in sorted(values.items())}
                        return codec.encode(TpmQuote(attest, signature, ak.public, {BANK: shown}))
            finally:
                tpm.flush(ak.handle)
        raise DeviceUnavailable(
            "registers keep changing while they are quoted", remedy="Ask again when boot has ended."
        )

    def extend(self, register: int, measurement: bytes) -> None:
        """Extend the run-time register (15) by `measurement` (32 bytes). Raises `DeviceUnavailable`."""
        if register != RUNTIME_REGISTER or len(measurement) != MEASUREMENT_BYTES:
            raise UsageError(f"register {register} cannot be extended by {len(measurement)} bytes")
        with self._commands() as tpm:
            tpm.extend(register, BANK, measurement)

    def log(self) -> bytes:
        """The firmware's event log (TCG PC Client Platform Firmware Profile), empty where the kernel has none.

        Raises `DeviceUnavailable` for one that cannot be read.
        """
        try:
            with self._log.open("rb") as file:
                content = file.read(MAX_LOG_BYTES + 1)
        except FileNotFoundError:
            return b""
        except OSError as error:
            raise DeviceUnavailable(f"the event log cannot be read ({error.strerror})") from None
        if len(content) > MAX_LOG_BYTES:
            raise DeviceUnavailable(f"the event log exceeds {MAX_LOG_BYTES} bytes")
        return content

    def keys(self, algorithm: str = "rsa") -> tuple[bytes, bytes, bytes]:
        """What an enrolment begins with: the EK's certificate (DER; empty where the TPM holds none), EK and AK.

        Both keys are TPMT_PUBLIC. `algorithm` is that of the EK: rsa or ecc. Raises `DeviceUnavailable`.
        """
        index, template = _known(EK_CERTIFICATES, algorithm)
        with self._commands() as tpm:
            certificate = tpm.read_nv(index)
            ek, ak = self._primary(tpm, template), self._primary(tpm, self._template(tpm))
        return certificate, ek, ak

    def ak_certificate(self) -> bytes:
        """The certificate of Google's AK (DER), empty where there is none. Raises `DeviceUnavailable`."""
        if self._ak == "own":
            return b""
        with self._commands() as tpm:
            return tpm.read_nv(GOOGLE_AK[self._ak.removeprefix("google-")][0])

    def activate(self, credential: Credential, algorithm: str = "rsa") -> bytes:
        """Open a credential made for this TPM's EK and this AK. Raises `DeviceUnavailable`, also if it is for another."""
        _, template = _known(EK_CERTIFICATES, algorithm)
        with self._commands() as tpm:
            ek, ak = tpm.create_primary(template), tpm.create_primary(self._template(tpm))
            try:
                return tpm.activate(ak.handle, ek.handle, credential)
            finally:
                tpm.flush(ak.handle)
                tpm.flush(ek.handle)

    def _template(self, tpm: Commands) -> bytes:
        if self._ak == "own":
            return AK_ECC
        template = tpm.read_nv(GOOGLE_AK[self._ak.removeprefix("google-")][1])
        if not template:
            raise DeviceUnavailable("this TPM holds no attestation key that Google certified", remedy="Use its own AK.")
        return template

    def _primary(self, tpm: Commands, template: bytes) -> bytes:
        key = tpm.create_primary(template)
        tpm.flush(key.handle)
        return key.public

    @contextmanager
    def _commands(self) -> Iterator[Commands]:
        with self._lock:
            transport = self._connect()
            try:
                yield Commands(transport)
            except MalformedEvidence as error:
                raise DeviceUnavailable(f"the TPM's answer does not parse: {error.message}") from None
            finally:
                transport.close()


def _read_all(tpm: Commands, registers: Sequence[int]) -> dict[int, bytes]:
    """All of `registers`, read while none changed; a TPM gives eight at a time."""
    values: dict[int, bytes] = {}
    first: int | None = None
    while left := [index for index in registers if index not in values]:
        changes, found = tpm.read_registers(BANK, left)
        if not found:
            raise DeviceUnavailable(f"the TPM has no {BANK} registers to quote")
        first = changes if first is None else first
        values = found if changes != first else {**values, **found}
        first = changes
    return values


def _fits(attest: Attest, qualifying: bytes, values: dict[int, bytes]) -> bool:
    digest = hashlib.sha256(b"".join(values[index] for index in sorted(values))).digest()
    return attest.extra_data == qualifying and attest.pcr_digest == digest


def _known(table: dict[str, tuple[int, bytes]], algorithm: str) -> tuple[int, bytes]:
    if algorithm not in table:
        raise UsageError(f"an endorsement key of {algorithm[:16]!r}; rsa and ecc are known")
    return table[algorithm]
