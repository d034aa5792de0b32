import os
import subprocess
import sys
from pathlib import Path

import pytest

from servestream_client.version import __version__

COMMAND = [sys.executable, "-m", "servestream_client.cli"]


@pytest.mark.parametrize(
    "command", [[], ["call"], ["generate"], ["bench"], ["demo"], ["demo-tokens"]]
)
def test_help_has_examples_and_exit_codes(servestream, command):
    code, out, _ = servestream(*command, "--help")
    assert code == 0
    assert f"servestream {command[0]} " in out if command else "141" in out


def test_the_version(servestream):
    assert servestream("--version") == (0, f"servestream {__version__}\n", "")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("servestream c", ["call"]), ("servestream call --inp", ["--input", "--input-format"])],
)
def test_a_shell_completes_it(typed, offered):
    """As bash asks, once `--install-completion` has told it how."""
    asked = {
        "_SERVESTREAM_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(len(typed.split()) - 1),
    }
    done = subprocess.run(
        [Path(sys.executable).with_name("servestream")],
        env={**os.environ, **asked},
        capture_output=True,
        text=True,
        check=False,
    )
    assert sorted(done.stdout.split()) == offered


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--kills", "900"], "900 kills are too many for 1797 images"),
        (["--ingress", "envoy"], "--ingress is proxy or haproxy, not 'envoy'"),
    ],
)
def test_a_demo_that_cannot_be(servestream, arguments, words):
    code, out, err = servestream("demo", *arguments)
    assert (code, out) == (2, "")
    assert words in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "there is no model at /nowhere.gguf"),
        (["--ingress", "envoy"], "--ingress is proxy or haproxy, not 'envoy'"),
    ],
)
def test_a_demo_of_a_language_model_that_cannot_be(servestream, monkeypatch, arguments, words):
    monkeypatch.setenv("SERVESTREAM_DEMO_MODEL", "/nowhere.gguf")
    code, _, err = servestream("demo-tokens", *arguments)
    assert code == 2
    assert words in err


def test_without_its_extra_it_says_what_to_install():
    blocked = "import sys; sys.modules['typer'] = None; from servestream_client.cli import main"
    done = subprocess.run(
        [sys.executable, "-c", f"{blocked}; main()"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "pip install 'servestream-client[cli]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_client_alone_needs_none_of_it():
    """What the core installs is enough to import everything but the extras."""
    extras = "typer rich msgspec numpy opentelemetry ray psutil matplotlib sklearn pytest"
    script = f"""
import sys
for name in {extras!r}.split():
    sys.modules[name] = None
import servestream_client, servestream_client.server, servestream_client.events
import servestream_client.testing
for make in (
    lambda: servestream_client.JsonCodec(object, object),
    lambda: servestream_client.ArraySpec("uint8"),
):
    try:
        make()
    except servestream_client.ConfigurationError as error:
        print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "pip install 'servestream-client[msgspec]'" in done.stdout
    assert "pip install 'servestream-client[numpy]'" in done.stdout
