"""For a web server: ``uvicorn digits_web.main:app``."""

from __future__ import annotations

import os

from digits_web.app import create_app

app = create_app(os.environ.get("DIGITS_TARGET", "127.0.0.1:9000"), application="digits")
