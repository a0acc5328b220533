"""Whether the log of a bundle is the one that witnesses saw: so many of those whom the auditor names.

Knows: that a witnessed state must lead to the bundle's own, and which leaves it holds (RFC 6962, C2SP tlog-cosignature). Does not
know: which witnesses are good; the auditor says that, and nothing in the bundle does. A leaf that came after the witnessed state is
missing: nobody vouches yet that everybody sees it.
"""

from __future__ import annotations

from strongroom.audit import bundle as files
from strongroom.audit.bundle import Bundle
from strongroom.audit.opened import Opened, parse
from strongroom.errors import Refused, Unreadable
from strongroom.receipts.cosignature import Quorum
from strongroom.receipts.note import open_checkpoint
from strongroom.receipts.proof import verify_extension
from strongroom.records.audit import Cosigned


def check_witnesses(opened: Opened, bundle: Bundle, quorum: Quorum | None) -> None:
    """One more check of `opened`; it asks nothing where nobody names witnesses."""
    tally = opened.tally(
        "audit.witnesses", "leaves that named witnesses vouch for, in a state of the log that enough of them signed"
    )
    opened.used.add(files.COSIGNED)
    if quorum is None:
        return
    tally.items = len(opened.leaves)
    data = bundle.parts.get(files.COSIGNED)
    if data is None or opened.identity is None or opened.checkpoint is None:
        tally.miss(files.COSIGNED, "there is no state that witnesses signed, or no log whose it could be")
        return
    cosigned = parse(Cosigned, tally, files.COSIGNED, data)
    if cosigned is None:
        return
    try:
        state = open_checkpoint(cosigned.checkpoint, opened.identity.log_origin, opened.identity.log)
        verify_extension(state, opened.checkpoint, cosigned.path)
        quorum.check(cosigned.checkpoint)
    except (Refused, Unreadable) as error:
        tally.fail(files.COSIGNED, error.message)
        return
    for index in sorted(opened.leaves):
        if index >= state.size:
            tally.miss(f"leaf {index}", "it came after the state that witnesses signed; export once more")
