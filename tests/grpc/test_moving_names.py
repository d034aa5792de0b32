"""A name whose addresses change, by the system's own resolver and a DNS server of the test's."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "moving_name.py"
NAME = "replicas.example:9000"


@pytest.fixture(scope="module")
def seen() -> dict:
    """What streams saw."""
    if shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("there is no ip, or no unshare")
    command = ["unshare", "--user", "--map-root-user", "--net", "--mount", "true"]
    made = subprocess.run(command, check=False)
    if made.returncode:
        pytest.skip("this system allows no namespaces")
    run = subprocess.run([sys.executable, SCRIPT], stdout=subprocess.PIPE, timeout=150, check=True)
    found = json.loads(run.stdout)
    print(f"followed in {found['took']:.2f} s")
    return found


def test_streams_spread_over_all_addresses_of_a_name(seen):
    together = seen["together"]
    assert set(together) == {f"{NAME} (127.0.0.{n}:9000)" for n in (2, 3)}
    assert sum(together.values()) == 40
    assert min(together.values()) >= 10  # one that has just ended may still count


def test_an_address_that_the_name_has_no_more_and_that_is_dead_is_left_alone(seen):
    assert seen["left"] == {f"{NAME} (127.0.0.2:9000)": 10}


def test_a_name_that_moves_is_followed_in_time(seen):
    """Long before gRPC would ask again: the script's streams give up after 20 s, it after 30."""
    assert seen["after"] == {f"{NAME} (127.0.0.3:9000)": 10}


def test_a_certificate_is_that_of_the_name(seen):
    assert seen["tls"] == "replicas.example:9001 (127.0.0.2:9001)"
