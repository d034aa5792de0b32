#!/bin/sh
# Ray 2.60.0 (ray.util.metrics), CPython 3.11.
#
# A guess: `_sum` over `_count` of a histogram on a node's Prometheus page is the mean of what was observed.
#
# Seen: a process sends its agent the bucket that an observation fell into, not the observation, and the
# agent observes the middle of that bucket. Of 1,000 observations of 1.0 in a histogram with the boundaries
# 0.5, 1 and 2.5 the sum is 750, and of 1,000 of 100.0, above the last boundary, it is 5,000: twice that
# boundary each. So a mean is that of the buckets' middles, however exact it looks, and one slow outlier
# counts no more than another. Quantiles are what can be read.
#
#   1000 times 1.0: count 1000, sum 750.0
#   1000 times 100.0: count 1000, sum 5000.0
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "ray[default]==2.60.0"
cat > "$folder/look.py" <<'PYTHON'
import re
import sys
import time
import urllib.request

import ray
from ray.util.metrics import Histogram

ray.init(num_cpus=1, log_to_driver=False, logging_level="ERROR", _temp_dir=sys.argv[1])
for name, value in (("ones", 1.0), ("hundreds", 100.0)):
    histogram = Histogram(name, description=name, boundaries=[0.5, 1, 2.5])
    for _ in range(1000):
        histogram.observe(value)
port = ray.nodes()[0]["MetricsExportPort"]
address = ray.nodes()[0]["NodeManagerAddress"]
seen = {}
deadline = time.monotonic() + 120
while time.monotonic() < deadline:
    try:
        page = urllib.request.urlopen(f"http://{address}:{port}/metrics", timeout=5).read().decode()
    except OSError:
        page = ""
    seen = {
        (name, kind): float(number)
        for name, kind, number in re.findall(
            r"^ray_(ones|hundreds)_(sum|count)\{[^}]*\} (\S+)$", page, re.MULTILINE
        )
    }
    if seen.get(("ones", "count")) == seen.get(("hundreds", "count")) == 1000:
        break
    time.sleep(1)
for name, value in (("ones", 1.0), ("hundreds", 100.0)):
    print(f"1000 times {value}: count {seen[name, 'count']:.0f}, sum {seen[name, 'sum']}")
ray.shutdown()
PYTHON
short=$(mktemp -d /tmp/rXXXX)
trap 'rm -rf "$folder" "$short"' EXIT
seen=$("$folder/env/bin/python" "$folder/look.py" "$short" 2> "$folder/log") || { cat "$folder/log"; exit 1; }
echo "$seen"
test "$seen" = "1000 times 1.0: count 1000, sum 750.0
1000 times 100.0: count 1000, sum 5000.0"
