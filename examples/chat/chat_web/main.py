"""For a web server: ``uvicorn chat_web.main:app``, one process of it.

An answer belongs to the process that began it. Several processes need a load balancer that sends
all requests for one answer to the same of them.
"""

from __future__ import annotations

import os

from chat_web.app import create_app

app = create_app(os.environ.get("CHAT_TARGET", "127.0.0.1:9000"), application="chat")
