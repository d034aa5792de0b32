"""Chaos on a real Ray Serve: many streams, everything killed, and every item held to account.

``python -m chaos`` on one node, in both ingress modes; ``python -m chaos.nodes`` on two, with a
network between them that breaks.
"""

import os

# Before gRPC is imported anywhere: what it logs when a server goes would lie across the progress.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
