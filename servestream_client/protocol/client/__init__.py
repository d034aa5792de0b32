"""The client's side of one stream: `ClientSession`, and what it hands out.

The rules are docs/protocol.md, sections 4 to 14 and 16, seen from the client.
Each room knows only those below it:

    session                  the states, and the order of effects within a frame
    answers                  what a server answers: section 6
    attempt                  one call: sections 5 to 9 and 12
    standstill    cancels    opening: section 4, as functions
    delivery                 what the consumer has not taken: section 7
    ledger        counters   the inputs: section 6, and all that a resume needs
"""

from servestream_client.protocol.client.attempt import Attempt
from servestream_client.protocol.client.counters import ClientCounters
from servestream_client.protocol.client.delivery import Delivery
from servestream_client.protocol.client.ledger import UNKNOWN_BYTES
from servestream_client.protocol.client.session import ClientSession

__all__ = ["UNKNOWN_BYTES", "Attempt", "ClientCounters", "ClientSession", "Delivery"]
