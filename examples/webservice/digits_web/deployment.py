"""The classifier on Ray Serve: ``serve run serve.yaml``."""

from __future__ import annotations

from ray import serve

from digits_web.model import Classifier

classifier = serve.deployment(num_replicas=2, max_ongoing_requests=100)(Classifier).bind()
