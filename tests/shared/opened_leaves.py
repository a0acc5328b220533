"""A broker's leaves with what they hide, as far as its database can still open them."""

from strongroom.receipts.hidden import reveal
from strongroom.records import codec
from strongroom.records.release import Leaf


def opened_leaves(reader, start=0):
    """The leaves from `start` on."""
    found = enumerate(reader.log_leaves(start, reader.log_size()), start)
    return [reveal(codec.decode(Leaf, data), reader.openings(index))[0] for index, data in found]
