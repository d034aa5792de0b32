"""How the command reaches a service: TLS, tokens, and what is wrong with them."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from fronts import Certificates, Front, replaced


@pytest.fixture
def certificates(tmp_path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture
def files(certificates, monkeypatch) -> None:
    """The working directory: certificates and keys, one of them locked, and a note."""
    monkeypatch.chdir(certificates.folder)
    Path("note").write_text("no certificate")
    _, other_key = certificates.of_a_client()
    key = serialization.load_pem_private_key(other_key.read_bytes(), password=None)
    password = serialization.BestAvailableEncryption(b"secret")
    Path("locked.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, password)
    )


def asking(certificates: Certificates):
    """Changes the page's nginx so that it asks for a token and a certificate."""
    asked = f"ssl_verify_client on; ssl_client_certificate {certificates.authority};"
    token = 'if ($http_authorization != "Bearer right") { return 401; } grpc_pass'
    return lambda page: replaced(
        replaced(page, "http2 on;", f"http2 on; {asked}"), "grpc_pass", token
    )


def test_through_a_front_with_certificates_and_a_token(servestream, stream_server, certificates):
    certificate, key = certificates.of_a_client()
    shown = ("--cert", certificate, "--key", key, "--ca", certificates.authority)
    with Front("nginx", [stream_server.target] * 2, certificates, asking(certificates)) as front:
        token = ("--metadata", "authorization=Bearer right")
        code, out, _ = servestream("call", front.target, *shown, *token, stdin="one")
        assert (code, json.loads(out)) == (0, "ONE")
        code, out, err = servestream("call", front.target, *shown, stdin="one")
        assert (code, out) == (3, "")
        assert "asks for credentials" in err


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--ca", "note"], "holds no certificate in PEM"),
        (["--cert", "cert.pem"], "--cert and --key go together"),
        (["--cert", "cert.pem", "--key", "note"], "not a certificate and its key"),
        (["--cert", "cert.pem", "--key", "client-key.pem"], "not a certificate and its key"),
        (["--cert", "cert.pem", "--key", "locked.pem"], "not a certificate and its key"),
        (["--ca", "absent.pem"], "does not exist"),
        (["--ca", "."], "is a directory"),
        (["--metadata", "token"], "--metadata takes KEY=VALUE"),
    ],
)
def test_plain_mistakes_are_said_in_words(servestream, stream_server, arguments, expected):
    code, out, err = servestream("call", stream_server.target, *arguments, stdin="one")
    assert (code, out) == (2, "")
    assert expected in " ".join(err.replace("│", " ").split())
