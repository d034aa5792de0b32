#!/bin/sh
# Ray Serve 2.60.0, CPython 3.11.
#
# A guess: `serve.get_replica_context().world_size`, documented as the number of replicas in the
# deployment, tells a replica how many there are.
#
# Seen: it is the deployment's num_replicas as configured. With an autoscaling_config that is 1, whatever
# number of replicas runs, from the beginning and for good. (Where num_replicas is changed by deploying
# again, replicas that stay do get the new number.) `serve.status()` counts those that run.
#
#   autoscaling, 3 replicas run: world_size [1, 1, 1]
#   num_replicas=2, 2 replicas run: world_size [2, 2]
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check "ray[serve]==2.60.0"
cat > "$folder/look.py" <<'PYTHON'
import logging
import sys
import time

import ray
from ray import serve
from ray.serve.config import HTTPOptions


def deployment(**options):
    @serve.deployment(ray_actor_options={"num_cpus": 0.1}, **options)
    class Service:
        async def __call__(self):
            context = serve.get_replica_context()
            return context.replica_tag, context.world_size

    return Service.bind()


def running(name):
    (status,) = serve.status().applications[name].deployments.values()
    return sum(count for state, count in status.replica_states.items() if state == "RUNNING")


def told(name, replicas, **options):
    handle = serve.run(deployment(**options), name=name, route_prefix=None)
    said, deadline = {}, time.monotonic() + 60
    while (len(said) < replicas or running(name) < replicas) and time.monotonic() < deadline:
        said.update([handle.remote().result()])
    return f"{running(name)} replicas run: world_size {list(said.values())}"


ray.init(
    num_cpus=4, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR,
    _temp_dir=sys.argv[1],
)
logging.getLogger("ray.serve").setLevel(logging.ERROR)
serve.start(http_options=HTTPOptions(location="NoServer"))
scaling = {"min_replicas": 1, "max_replicas": 4, "initial_replicas": 3, "downscale_delay_s": 600}
print("autoscaling,", told("scaled", 3, autoscaling_config=scaling))
print("num_replicas=2,", told("fixed", 2, num_replicas=2))
ray.shutdown()
PYTHON
RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_TOKEN=none "$folder/env/bin/python" "$folder/look.py" "$folder/ray" \
	> "$folder/seen" 2> "$folder/errors" || { cat "$folder/errors"; exit 1; }
cat "$folder/seen"
grep -qx 'autoscaling, 3 replicas run: world_size \[1, 1, 1\]' "$folder/seen"
grep -qx 'num_replicas=2, 2 replicas run: world_size \[2, 2\]' "$folder/seen"
