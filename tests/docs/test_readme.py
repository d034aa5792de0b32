"""README and the specification say what the code does."""

import ast
import re
from pathlib import Path

import pytest

from servestream_client.config import RetryPolicy
from servestream_client.protocol.frames import Limits
from servestream_client.server import runner

ROOT = Path(__file__).resolve().parent.parent.parent
PROTOCOL = (ROOT / "docs" / "protocol.md").read_text()


def test_links_lead_somewhere():
    for document in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for link in re.findall(r"\]\(([^)#]+)", document.read_text()):
            if "://" not in link:
                assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_every_make_target_that_is_named_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for document in ROOT.glob("*.md"):
        named = set(re.findall(r"`?make ([a-z-]+)", document.read_text()))
        assert named & targets or not named
        for target in re.findall(r"`make ([a-z-]+)", document.read_text()):
            assert target in targets, f"{document.name}: make {target}"


@pytest.mark.parametrize("name", ["README.md"])
def test_code_blocks_compile(name):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        # As in a notebook, `async for` may stand outside of a function.
        compile(block, name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_the_specifications_defaults_are_the_codes():
    limits, policy = Limits(), RetryPolicy()
    for field, text in {
        "window_items": "4096",
        "window_bytes": "4 MiB",
        "unacknowledged_frames": "4",
        "frame_bytes": "4 MiB",
        "item_bytes": "3 MiB",
    }.items():
        (row,) = re.findall(rf"^\| `{field}` \|.*$", PROTOCOL, re.MULTILINE)
        assert row.endswith(f"| {text} |")
        number, _, unit = text.partition(" ")
        assert getattr(limits, field) == int(number) * (2**20 if unit else 1)
    assert f"{policy.attempts} attempts in a row" in PROTOCOL
    assert f"{policy.give_up_after:.0f} s, are the end" in PROTOCOL
    assert f"{policy.connect_attempts} attempts if the target" in PROTOCOL
    assert f"{runner.LINGER_SECONDS:.0f} seconds at the most" in PROTOCOL
