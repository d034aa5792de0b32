"""``python -m servestream_client.cli``."""

from servestream_client.cli import main

main()
