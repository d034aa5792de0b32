#!/bin/sh
# Ray 2.60.0 (ray.util.metrics), CPython 3.11.
#
# A guess: a gauge keeps its last value on a node's Prometheus page while its process lives, as with
# Prometheus's own client; so it is enough to set it when it changes.
#
# Seen: a gauge that is not set again vanishes from the page after two to three of the ten-second intervals
# in which processes report, though its process goes on. A counter that is not raised stays. So a gauge
# that is set on changes alone is a gap in the graph whenever nothing changes.
#
#   at first: gauge 7, counter 7
#   a minute later: gauge gone, counter 7
set -eu
folder=$(mktemp -d)
short=$(mktemp -d /tmp/rXXXX)
trap 'rm -rf "$folder" "$short"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "ray[default]==2.60.0"
cat > "$folder/look.py" <<'PYTHON'
import re
import sys
import time
import urllib.request

import ray
from ray.util.metrics import Counter, Gauge

ray.init(num_cpus=1, log_to_driver=False, logging_level="ERROR", _temp_dir=sys.argv[1])
node = ray.nodes()[0]
url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"


def shown() -> dict[str, str]:
    try:
        page = urllib.request.urlopen(url, timeout=5).read().decode()
    except OSError:
        return {}
    return {
        name: f"{float(value):.0f}"
        for name, value in re.findall(
            r"^ray_(mine_gauge|mine_counter_total)\{[^}]*\} (\S+)$", page, re.MULTILINE
        )
    }


def told(when: str, page: dict[str, str]) -> None:
    gauge, counter = (page.get(name, "gone") for name in ("mine_gauge", "mine_counter_total"))
    print(f"{when}: gauge {gauge}, counter {counter}")


gauge, counter = Gauge("mine_gauge", "mine"), Counter("mine_counter", "mine")
gauge.set(7)
counter.inc(7)
deadline = time.monotonic() + 120
while len(page := shown()) < 2 and time.monotonic() < deadline:
    time.sleep(1)
told("at first", page)
time.sleep(60)
told("a minute later", shown())
ray.shutdown()
PYTHON
seen=$("$folder/env/bin/python" "$folder/look.py" "$short" 2> "$folder/log") || { cat "$folder/log"; exit 1; }
echo "$seen"
test "$seen" = "at first: gauge 7, counter 7
a minute later: gauge gone, counter 7"
