"""Ray Serve in a process of its own, told what to do by lines of JSON on standard input.

Started by `ServeFixture`, and by nobody else.
"""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import sys
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

from servestream_client.testing.faults import Fault
from servestream_client.testing.ray_serve.cluster import Ended, Ingress, cluster, deploy, until_told

# Not imported here: Ray, whose ingress mode is settled by `cluster` before it is imported.


def main() -> int:
    """Serve until standard input ends. Returns the process's exit code."""
    options = json.loads(sys.argv[1])
    options["ingress"] = Ingress(options["ingress"])
    try:
        with until_told():
            _control(options)
    except Ended:
        shutil.rmtree(options["directory"], ignore_errors=True)  # a parent that died cannot
    return 0


def _control(options: dict[str, Any]) -> None:
    requests, replies = _private_streams()
    pending: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(requests, pending), daemon=True).start()

    def send(message: dict[str, Any]) -> None:
        try:
            print(json.dumps(message), file=replies, flush=True)
        except BrokenPipeError:  # the parent is gone; the end of its input says so as well
            return

    with cluster(**options, say=lambda text: send({"phase": text})):
        commands = _commands(options["replicas"])
        send({"ready": True})
        while True:
            request = json.loads(pending.get())
            try:
                result = commands[request["do"]](*request["arguments"])
            except Exception as error:  # whatever it is, the parent shall know
                send({"id": request["id"], "error": f"{type(error).__name__}: {error}"})
            else:
                send({"id": request["id"], "result": result})


def _private_streams() -> tuple[TextIO, TextIO]:
    """Standard input and output under other numbers, which no child process inherits.

    What Ray prints goes to standard error from now on, and no process but this one keeps the
    pipes open: their end means that this process, or its parent, has ended.
    """
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.stdout.flush()
    os.dup2(2, 1)
    return requests, replies


def _read(requests: TextIO, pending: queue.SimpleQueue[str]) -> None:
    for line in requests:
        pending.put(line)
    # The parent closed it, or died. A signal ends the main thread also while it starts Ray.
    os.kill(os.getpid(), signal.SIGTERM)


def _commands(replicas: int) -> dict[str, Callable[..., Any]]:
    import ray

    from servestream_client.testing.ray_serve.ledger import ledger

    book = ledger()

    def enrolled() -> dict[str, dict[str, Any]]:
        pids, applications = ray.get([book.pids.remote(), book.applications.remote()])
        return {
            replica: {"pid": pid, "application": applications[replica]}
            for replica, pid in pids.items()
        }

    def add(*faults: dict[str, Any]) -> None:
        ray.get(book.add.remote([Fault.from_json(each) for each in faults]))

    def clear() -> None:
        ray.get(book.clear.remote())

    def fired() -> list[dict[str, Any]]:
        return [fault.to_json() for fault in ray.get(book.fired.remote())]

    def metrics() -> str:
        node = ray.nodes()[0]  # type: ignore[no-untyped-call]
        url = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
        with urllib.request.urlopen(url, timeout=50) as page:  # the parent waits for 60 s
            text: str = page.read().decode()
        return text

    def deploy_another(name: str) -> None:
        deploy(name, replicas=replicas)

    return {
        "enrolled": enrolled,
        "add": add,
        "clear": clear,
        "fired": fired,
        "metrics": metrics,
        "deploy": deploy_another,
    }


if __name__ == "__main__":
    sys.exit(main())
