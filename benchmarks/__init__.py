"""What the client costs and brings, measured against a raw gRPC stub on the same deployment.

Run as ``python -m benchmarks``, or as ``make bench``. docs/benchmarks.md has the results and says
what they mean.
"""

import os

# Before gRPC is imported anywhere: what it logs when a server goes would lie across the tables.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
