"""The basic suite under whatever people run it under, each in a process of its own.

`make test-neighbours` runs it beside the packages that people have beside us.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).with_name("basic.py")
BOUND = 55

PROXIES = dict.fromkeys(
    ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "HTTPS_PROXY"), "http://127.0.0.1:1"
)

AS_OF_3_12 = pytest.mark.skipif(sys.version_info < (3, 12), reason="as of Python 3.12")


@pytest.mark.parametrize(
    ("python", "options", "environment"),
    [
        pytest.param([], [], {}, id="plain"),
        pytest.param([], ["--uvloop"], {}, id="uvloop"),
        pytest.param([], ["--interceptor=call"], {}, id="interceptor"),
        pytest.param([], ["--interceptor=iterator"], {}, id="interceptor-iterator"),
        pytest.param([], [], PROXIES, id="proxies"),
        pytest.param([], ["--hooks"], {}, id="calls-from-hooks"),
        pytest.param([], ["--collect"], {}, id="low-gc-threshold"),
        pytest.param(["-X", "dev"], [], {}, id="dev-mode"),
        pytest.param(["-O"], [], {}, id="optimised"),
        pytest.param([], ["--threads=3"], {}, id="loops-in-threads"),
        pytest.param([], ["--eager"], {}, id="eager-tasks", marks=AS_OF_3_12),
        pytest.param(
            *([], ["--eager", "--interceptor=call"], {}),
            id="eager-tasks-interceptor",
            marks=AS_OF_3_12,
        ),
    ],
)
def test_the_basic_suite(python, options, environment):
    done = subprocess.run(
        [sys.executable, *python, SUITE, *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "close", "all parts ran"


def test_what_is_reported_behind_its_back_fails_it(tmp_path):
    """The suite itself can fail."""
    for saboteur in (
        "import warnings; warnings.warn('x')",
        "loop.call_soon(lambda: 1 / 0)",
        "import logging; logging.getLogger('servestream_client.x').error('x')",
        "import threading; t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
        "type('X', (), {'__del__': lambda _: 1 / 0})()",
    ):
        script = tmp_path / "script.py"
        script.write_text(
            f"import sys, asyncio; sys.path.insert(0, {str(SUITE.parent.parent)!r})\n"
            "from surroundings import basic\n"
            "async def bad(client, server):\n"
            "    loop = asyncio.get_running_loop()\n"
            f"    {saboteur}\n"
            "    await asyncio.sleep(0)\n"
            "basic.SUITE = (bad,)\n"
            "sys.exit(basic.main())\n"
        )
        done = subprocess.run(
            [sys.executable, script], capture_output=True, timeout=BOUND, check=False
        )
        assert done.returncode == 1, (saboteur, done.stderr)
