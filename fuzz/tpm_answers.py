"""What a TPM answers: the responses to every command that is ever sent, one after the other in the input."""

from collections.abc import Callable
from contextlib import suppress

from harness import instrumented, run

with instrumented():
    import samples

    from strongroom.errors import StrongroomError
    from strongroom.tee.tpm import commands
    from strongroom.tee.tpm.commands import AK_ECC, EK_RSA, Commands
    from strongroom.tee.tpm.credential import Credential
    from strongroom_sim.tpm import Tpm, TpmMaker
    from strongroom_sim.tpm_wire import Wire

commands.PAUSE_SECONDS = 0.0
FLUSHED = b"\x80\x01" + (10).to_bytes(4, "big") + bytes(4)
CREDENTIAL = Credential(bytes(52), bytes(256))
CALLS: tuple[Callable[[Commands], object], ...] = (
    lambda tpm: tpm.create_primary(AK_ECC),
    lambda tpm: tpm.create_primary(EK_RSA),
    lambda tpm: tpm.read_registers("sha256", range(24)),
    lambda tpm: tpm.quote(1, bytes(32), "sha256", range(24)),
    lambda tpm: tpm.extend(15, "sha256", bytes(32)),
    lambda tpm: tpm.read_nv(0x01C00002),
    lambda tpm: tpm.activate(1, 2, CREDENTIAL),
)


class Told:
    """A transport that answers with what it was told, each answer after its length in two bytes."""

    def __init__(self, data: bytes) -> None:
        self._left = data

    def exchange(self, _: bytes) -> bytes:
        size = int.from_bytes(self._left[:2], "big")
        answer, self._left = self._left[2 : 2 + size], self._left[2 + size :]
        return answer or FLUSHED

    def close(self) -> None:
        return


class Noted:
    """A transport that notes every answer of another one."""

    def __init__(self, wire: Wire) -> None:
        self._wire, self.answers = wire, b""

    def exchange(self, command: bytes) -> bytes:
        answer = self._wire.exchange(command)
        self.answers += len(answer).to_bytes(2, "big") + answer
        return answer

    def close(self) -> None:
        return


def one(data: bytes) -> None:
    if data:
        with suppress(StrongroomError):
            CALLS[data[0] % len(CALLS)](Commands(Told(data[1:])))


def seeds() -> list[bytes]:
    tpm = Tpm(TpmMaker.generate(now=samples.NOW), samples.NOW)
    found = []
    for number, call in enumerate(CALLS):
        noted = Noted(Wire(tpm))
        with suppress(StrongroomError):
            call(Commands(noted))
        found.append(bytes([number]) + noted.answers)
    return found


if __name__ == "__main__":
    run(one, seeds)
