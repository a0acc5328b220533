"""One tree of errors. Each has a stable code, a remedy and the exit code of the command line.

    StrongroomError
    ├── Refused                     exit 1   somebody proved the wrong thing, or proved nothing
    │   ├── AppraisalRefused                 evidence was judged and found wanting; carries the verdict
    │   ├── SimulationNotAccepted            simulated level, and nobody said --accept-simulated
    │   ├── ReleaseRefused                   the broker said no
    │   │   ├── NonceReused                  a challenge was answered twice
    │   │   └── LeaseEnded                   revoked, expired or unknown lease
    │   ├── GrantInvalid                     a grant not signed by the measured broker, or of another context
    │   ├── SignatureInvalid                 a signature that does not hold
    │   ├── CollateralStale                  a vendor's statement older than one that was seen before
    │   ├── SealBroken                       an artifact that was changed, cut or mixed
    │   ├── EditionRefused                   an artifact older than the least edition that will do, or of another line
    │   ├── ChannelRefused                   the sealed channel would not carry this
    │   │   ├── RequestReplayed              an encapsulation seen before
    │   │   ├── StreamTruncated              an answer without its end
    │   │   ├── ChannelKeyMismatch           a key that no evidence vouches for
    │   │   │   └── TlsKeyMismatch           a TLS key that the evidence does not name
    │   │   └── ChannelStripped              a version of the channel that was hidden on the way
    │   ├── ReceiptInvalid                   a receipt that does not match what was done
    │   ├── LogInvalid                       a log that shrank, forked or lacks the leaf
    │   │   └── LogSetBack                   a broker's own log, behind or beside what a witness saw of it
    │   ├── ImageRefused                     a worker image with something in it that must not be there
    │   ├── MachineUnfit                     a worker's machine that could not be closed before its worker starts
    │   ├── CreditRefused                    a credit that is missing, spent, or not of the issuer that counts
    │   ├── CredentialRefused                an API key or token that is missing, or nobody's
    │   │   └── CredentialExposed            one that travelled where others can read it
    │   ├── TenantRefused                    somebody genuine who is no tenant here
    │   ├── ImageChanged                     a file of a launch that is not the one its specification pins
    │   ├── NotMeasurable                    a launch of which nobody could say what it will measure
    │   ├── HostNotReady                     a host on which a check that the launch needs did not pass
    │   ├── LaunchFailed                     a machine that ended, or gave no quote, before it was ready
    │   ├── WipeInvalid                      a wipe receipt that does not say what one has to say
    │   ├── NotAuthorised                    an administrator's request without a valid signature
    │   ├── NotPermitted                     an administrator whose role or tenant does not allow what was asked
    │   └── WorkloadFailed                   what ran inside ended with an error of its own
    ├── UsageError                  exit 2   the caller asked for something that has no meaning
    ├── Unreadable                  exit 3   bytes that are not what they claim to be
    │   ├── MalformedRecord                  a record of unknown type, field, version or shape
    │   ├── MalformedEvidence                a quote or collateral that does not parse
    │   ├── MalformedArtifact                a layout, manifest or stream that does not parse
    │   ├── MalformedImage                   a kernel, firmware or image of a launch that does not parse
    │   ├── MalformedJournal                 a launch's journal that does not hold together
    │   ├── MalformedMessage                 a frame of the channel that does not parse
    │   └── FileUnreadable                   a file that is missing or cannot be read
    └── Unavailable                 exit 4   nothing is wrong, but it cannot be done now
        ├── ServiceUnavailable               a peer that does not answer
        │   └── WorkerBusy                   a worker that is full or drains
        ├── QuotaExceeded                    a tenant's allowance that is used up for now
        ├── AddressInUse                     a port that somebody else holds
        ├── WitnessesUnavailable             too few witnesses that sign the log
        ├── ClockWrong                       a broker's clock that is behind its own log, or jumped ahead
        ├── StoreUnavailable                 a database that is locked, corrupt or too new
        ├── LaunchBusy                       a launch that another launcher works on now
        ├── HypervisorUnavailable            QEMU, libvirt or a software TPM that is missing or does not do as told
        ├── DeviceUnavailable                no TEE device, or one that does not answer
        ├── TokenUnavailable                 a PKCS #11 token that is missing, locked, or refuses a PIN
        ├── EngineUnavailable                an engine that is missing, crashed or stopped
        └── ConfinementUnavailable           a kernel or an account that cannot confine a child

Knows: codes, remedies, exit codes. Does not know: who raises them. A public verb of strongroom raises nothing else.
"""

from __future__ import annotations

from typing import ClassVar


class StrongroomError(Exception):
    """The root of all errors. `code` is stable, `remedy` says what to do about it, `exit_code` is the command line's."""

    code: ClassVar[str] = "strongroom.error"
    exit_code: ClassVar[int] = 4
    default_remedy: ClassVar[str] = "Report this as a bug; it should have had a name of its own."

    def __init__(self, message: str, *, remedy: str | None = None, detail: str = "") -> None:
        """`message` is one sentence without secrets; `detail` names the check or place that failed."""
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.remedy = remedy if remedy is not None else self.default_remedy

    def explain(self) -> str:
        """All that a person needs: what went wrong, where, and what to do about it; the same wherever it is told."""
        return f"{self.message}. {self.remedy}"

    def as_dict(self) -> dict[str, str]:
        """The form that travels: in `--json` output and in the body of a refusal."""
        return {"code": self.code, "message": self.message, "detail": self.detail, "remedy": self.remedy}


class Refused(StrongroomError):
    """A verdict, not an accident: the answer is no."""

    code = "refused"
    exit_code = 1
    default_remedy = "Nothing was released. Look at the failed checks."


class AppraisalRefused(Refused):
    """Evidence was appraised and not accepted. `failed` lists the ids of the checks that failed or did not run.

    `reasons` says of each, in the same order, what differed and what usually makes it fail.
    """

    code = "appraisal.refused"
    default_remedy = (
        "Mend what the checks name; with the evidence at hand, `strongroom policy explain` says which input differs."
    )
    NOT_MADE: ClassVar[str] = "was not made"
    MOST_SHOWN: ClassVar[int] = 8

    def __init__(
        self, message: str, *, failed: tuple[str, ...] = (), reasons: tuple[str, ...] = (), remedy: str | None = None
    ) -> None:
        super().__init__(message, remedy=remedy, detail=", ".join(failed))
        self.failed, self.reasons = failed, reasons

    def explain(self) -> str:
        """With the checks that tell why, on a line each."""
        listed = [f"  {line}" for line in self.shown()]
        return "\n".join([f"{self.message}.", *listed, self.remedy]) if listed else super().explain()

    def shown(self) -> list[str]:
        """What people read: the checks that failed, a line each; those that were not made only where none failed.

        What was not made mostly follows from what failed, and hides it. All of them are in `failed`. Empty without reasons.
        """
        listed = list(zip(self.failed, self.reasons, strict=False))
        told = [one for one in listed if not one[1].startswith(self.NOT_MADE)] or listed
        lines = [f"{name}: {reason}" for name, reason in told[: self.MOST_SHOWN]]
        rest = len(listed) - len(lines)
        return [*lines, f"{rest} more did not pass or could not be made"] if lines and rest else lines


class SimulationNotAccepted(Refused):
    code = "appraisal.simulated"
    default_remedy = "A simulated TEE protects nothing. To go on all the same, say --accept-simulated, each time."


class ReleaseRefused(Refused):
    code = "release.refused"
    default_remedy = "Look at the failed checks in the answer and at the policy of the key."


class NonceReused(ReleaseRefused):
    code = "release.nonce_reused"
    default_remedy = "Ask for a new challenge and prove again; a challenge is good for one attempt."


class LeaseEnded(ReleaseRefused):
    code = "release.lease_ended"
    default_remedy = "The worker must drain, wipe and stop; start a new one, which proves itself anew."


class GrantInvalid(Refused):
    code = "release.grant_invalid"
    default_remedy = "Check that the broker's fingerprint in the worker's configuration is the right one."


class SignatureInvalid(Refused):
    code = "signature.invalid"
    default_remedy = "Check the signer's public key; if it is right, the content was changed after signing."


class CollateralStale(Refused):
    code = "collateral.stale"
    default_remedy = "Ask the vendor itself instead of a mirror or cache; somebody may be holding back what is newer."


class SealBroken(Refused):
    code = "sealed.broken"
    default_remedy = "Fetch the artifact again from a place that you trust to keep bytes, or seal it anew."


class EditionRefused(Refused):
    code = "sealed.edition"
    default_remedy = (
        "Fetch the newest edition; if this is the newest that the store has, the store is behind, or it lies."
    )


class ChannelRefused(Refused):
    code = "channel.refused"
    default_remedy = "Verify the worker again and send a new request."


class RequestReplayed(ChannelRefused):
    code = "channel.replayed"
    default_remedy = "Seal the request anew; one sealed request is answered once."


class StreamTruncated(ChannelRefused):
    code = "channel.truncated"
    default_remedy = "Treat the answer as incomplete and ask again."


class ChannelKeyMismatch(ChannelRefused):
    code = "channel.key"
    default_remedy = "Verify the worker again; somebody between you and it may have put in a key of their own."


class TlsKeyMismatch(ChannelKeyMismatch):
    code = "channel.tls"
    default_remedy = (
        "Verify the worker again; nothing was sent. If it stays so, somebody else ends the TLS before the worker."
    )


class ChannelStripped(ChannelRefused):
    code = "channel.stripped"
    default_remedy = "Somebody between you and the worker hides its sealed path; send your requests another way."


class ReceiptInvalid(Refused):
    code = "receipt.invalid"
    default_remedy = "Do not rely on this answer; keep the receipt and show it to the operator and the auditor."


class LogInvalid(Refused):
    code = "log.invalid"
    default_remedy = "Keep both checkpoints: they are the proof that the log was changed."


class LogSetBack(LogInvalid):
    code = "log.set_back"
    default_remedy = (
        "Do not start from this state. Restore the newest backup, or stop the other broker that goes on with this log; if"
        " neither can be had, make a new broker."
    )


class NotAuthorised(Refused):
    code = "admin.not_authorised"
    default_remedy = "Sign the request with a key that the broker knows as an administrator's (--identity)."


class NotPermitted(Refused):
    code = "admin.not_permitted"
    default_remedy = "Ask an administrator whose role allows it, or a root of the broker for that role."


class ImageChanged(Refused):
    code = "launch.image_changed"
    default_remedy = "Build the image again, or pin the new digest after you have looked at what changed."


class NotMeasurable(Refused):
    code = "launch.not_measurable"
    default_remedy = "Change the launch specification so that all that decides what runs is measured."


class ImageRefused(Refused):
    code = "image.refused"
    default_remedy = "Take what is named out of the image; a worker image holds what its worker needs, and no more."


class MachineUnfit(Refused):
    code = "machine.unfit"
    default_remedy = (
        "The machine is switched off, and nothing was started. Look at the image's configuration and at the host."
    )


class HostNotReady(Refused):
    code = "launch.host_not_ready"
    default_remedy = "Look at `strongroom doctor`: each check that did not pass has a remedy."


class LaunchFailed(Refused):
    code = "launch.failed"
    default_remedy = (
        "Look at the evidence in the launch's folder; `strongroom launch up` wipes what is left and starts anew."
    )


class LaunchGone(LaunchFailed):
    code = "launch.gone"
    default_remedy = "`strongroom launch up` wipes what is left and starts anew."


class WipeInvalid(Refused):
    code = "launch.wipe_invalid"
    default_remedy = "Do not rely on this receipt; take the machine down again and look at its folder."


class CreditRefused(Refused):
    code = "credit.refused"
    default_remedy = "Buy credits (`strongroom credits buy`) and ask with them (--credits WALLET)."


class CredentialRefused(Refused):
    code = "tenant.credential"
    default_remedy = (
        "Send an API key or token of a tenant of this worker, inside the seal (`strongroom.Client(api_key=…)`)."
    )


class CredentialExposed(CredentialRefused):
    code = "tenant.credential_exposed"
    default_remedy = "Withdraw this credential: others may have read it. Send the new one inside the seal."


class TenantRefused(Refused):
    code = "tenant.refused"
    default_remedy = "Ask the operator which tenant you belong to."


class WorkloadFailed(Refused):
    code = "workload.failed"
    default_remedy = "Look at the workload's own message; its inputs stayed sealed."


class UsageError(StrongroomError):
    code = "usage"
    exit_code = 2
    default_remedy = "See `strongroom --help`."


class Unreadable(StrongroomError):
    """Bytes that are not what they claim to be. Parsers of foreign bytes raise this and nothing else."""

    code = "unreadable"
    exit_code = 3
    default_remedy = "Check where these bytes come from."


class MalformedRecord(Unreadable):
    code = "record.malformed"
    default_remedy = "The sender speaks another version, or the record was changed on the way."


class MalformedEvidence(Unreadable):
    code = "evidence.malformed"
    default_remedy = "Collect the evidence again, from the device itself."


class MalformedArtifact(Unreadable):
    code = "sealed.malformed"
    default_remedy = "Check the reference; this is not an artifact that strongroom sealed."


class MalformedImage(Unreadable):
    code = "launch.image_malformed"
    default_remedy = "Check which file the launch specification names there, and build it again."


class MalformedJournal(Unreadable):
    code = "launch.journal"
    default_remedy = (
        "Somebody changed it. Keep the folder for whoever asks, end what runs, and launch from another folder."
    )


class MalformedMessage(Unreadable):
    code = "channel.malformed"
    default_remedy = "The peer does not speak this version of the sealed channel."


class FileUnreadable(Unreadable):
    code = "file.unreadable"
    default_remedy = "Check the path and its permissions."


class Unavailable(StrongroomError):
    """Nothing is wrong with the request; it cannot be done here or now."""

    code = "unavailable"
    exit_code = 4
    default_remedy = "Try again later."


class ServiceUnavailable(Unavailable):
    code = "service.unavailable"
    default_remedy = "Check that the service runs and that its address is right."


class WorkerBusy(ServiceUnavailable):
    code = "service.busy"
    default_remedy = "Come back in a moment; nothing of the request was read."


class QuotaExceeded(Unavailable):
    """`seconds`: when it is worth asking again."""

    code = "tenant.quota"
    default_remedy = "Wait as long as retry-after says."

    def __init__(self, message: str, *, remedy: str | None = None, detail: str = "", seconds: int = 1) -> None:
        super().__init__(message, remedy=remedy, detail=detail or f"retry after {seconds} s")
        self.seconds = seconds


class AddressInUse(Unavailable):
    code = "service.address_in_use"
    default_remedy = "Choose another port with --listen, or stop the process that holds this one."


class WitnessesUnavailable(Unavailable):
    code = "log.witnesses_unavailable"
    default_remedy = "Send the same request again soon; if it stays so, start the broker's witnesses."


class ClockWrong(Unavailable):
    code = "clock.wrong"
    default_remedy = "Set the machine's clock; the broker decides again once it has caught up with its log."


class StoreUnavailable(Unavailable):
    code = "store.unavailable"
    default_remedy = "Restore the database from a backup; the broker will check it against its log."


class LaunchBusy(Unavailable):
    code = "launch.busy"
    default_remedy = "Wait until the other launcher is done, or choose another folder with --state."


class HypervisorUnavailable(Unavailable):
    code = "launch.hypervisor"
    default_remedy = "Install qemu-system-x86, ovmf and swtpm, or start libvirt's services, and start again."


class DeviceUnavailable(Unavailable):
    code = "device.unavailable"
    default_remedy = "Run inside a TEE, or name a simulated one with --tee-root."


class TokenUnavailable(Unavailable):
    code = "token.unavailable"
    default_remedy = "Check the token, its address and its PIN; a token locks itself after a few wrong PINs."


class EngineUnavailable(Unavailable):
    code = "engine.unavailable"
    default_remedy = "Start the worker again; it proves itself and obtains its keys anew."


class ConfinementUnavailable(Unavailable):
    code = "confinement.unavailable"
    default_remedy = "Use a kernel and an account that allow user namespaces and seccomp."
