"""The language model on Ray Serve: ``serve run serve.yaml``."""

from __future__ import annotations

from ray import serve

from servestream_client.demo.tokens.service import Answering

model = serve.deployment(num_replicas=2, max_ongoing_requests=100)(Answering).bind()
