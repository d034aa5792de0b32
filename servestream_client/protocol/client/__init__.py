"""The client's side of one stream: `ClientSession`, and what it hands out.

The rules are docs/protocol.md, sections 4 to 14, 16, 18 and 19, seen from the client.
Each room knows only those below it:

    lane_share                 what goes on a stream's lanes, and comes back: section 19
    session                    the states, and the order of effects within a frame
    answers                    what a server answers: section 6
    attempt                    one call: sections 5 to 9 and 12
    reports                    what its server says of itself: sections 9 and 12
    allowance      in_flight   what may come on it: sections 7 and 18; what it has sent: section 6
    input_credits              the credit of single inputs: section 18
    standstill     cancels     opening: section 4, as functions
    delivery                   what the consumer has not taken: section 7
    deliveries                 what is handed out of that
    ledger         counters    the inputs: section 6, and all that a resume needs
    partial                    what of an input was received, and how it can go on: section 18
"""

from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.deliveries import Delivery, Part
from servestream_client.protocol.client.lane_share import LaneShare
from servestream_client.protocol.client.ledger import UNKNOWN_BYTES
from servestream_client.protocol.client.partial import Partial
from servestream_client.protocol.client.session import ClientSession

__all__ = [
    "UNKNOWN_BYTES",
    "Attempt",
    "ClientCounters",
    "ClientSession",
    "Delivery",
    "LaneShare",
    "Part",
    "Partial",
]
