"""A second driver on a cluster that runs already: it deploys new versions and scales.

The process is started by `Deployer`, which tells it what to do by lines of JSON. It is no part of
the fixture: that one's commands are few, and a redeploy may take longer than they may.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Deployer", "DeployerError", "Deployment"]

APPLICATION = "chaos"
REPLY_SECONDS = 240.0
START_SECONDS = 120.0
_RETRY_SECONDS = 2.0


class DeployerError(Exception):
    """The process does not answer, or could not do it."""


@dataclass(frozen=True, slots=True)
class Deployment:
    """What shall be deployed; see `chaos.app.build`."""

    version: int
    replicas: int
    per_node: int | None = None
    resources: Mapping[str, float] = field(default_factory=dict)
    ongoing: int = 1000
    queued: int = -1
    seconds: float = 0.0
    grace: float = 6.0
    state_key: str = ""


class Deployer:
    """The process, from outside. Its methods block; one call at a time goes through.

    Args:
        address: of the cluster's GCS.
        environment: of the process: the cluster's, with its mark, by which it is ended with it.
        prefix: of the command, e.g. to enter a network namespace.
        log: where its standard error goes.
    """

    def __init__(
        self,
        address: str,
        environment: Mapping[str, str],
        *,
        prefix: Sequence[str] = (),
        log: Path | None = None,
    ) -> None:
        self._command = [*prefix, sys.executable, "-m", "chaos.deploying", address]
        self._environment = dict(environment)
        self._log = log
        self._lock = threading.Lock()
        self._replies: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    def start(self) -> None:
        """
        Raises:
            DeployerError: it did not come up.
        """
        with open(self._log or os.devnull, "ab") as log:  # noqa: PTH123 — either will do
            process = subprocess.Popen(  # noqa: S603 — our own module
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
                start_new_session=True,
            )
        self._process = process
        self._reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        self._reader.start()
        self._receive(START_SECONDS)

    def stop(self, *, grace: float = 10.0) -> None:
        """End it. Harmless twice; also while another thread waits for its answer.

        Args:
            grace: seconds that it gets to end by itself.
        """
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()  # which tells it to end
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join()
        if process.stdout is not None:
            process.stdout.close()

    def serve(self, port: int) -> None:
        """Start Serve, with a proxy on every node.

        Raises:
            DeployerError: it could not.
        """
        self._ask("serve", port=port)

    def deploy(self, wanted: Deployment) -> None:
        """Deploy a version of the application, and wait until all of its replicas run.

        Raises:
            DeployerError: it could not.
        """
        self._ask("deploy", **asdict(wanted))

    def delete(self) -> None:
        """Delete the application.

        Raises:
            DeployerError: it could not.
        """
        self._ask("delete")

    def nodes(self) -> dict[str, bool]:
        """The addresses of the cluster's nodes, and whether each lives.

        Raises:
            DeployerError: it cannot tell.
        """
        nodes: dict[str, bool] = self._ask("nodes")
        return nodes

    def _ask(self, command: str, **arguments: object) -> Any:  # noqa: ANN401 — JSON
        with self._lock:
            process = self._process
            if process is None or process.stdin is None:
                raise DeployerError("it does not run")
            try:
                process.stdin.write(json.dumps({"do": command, "with": arguments}) + "\n")
                process.stdin.flush()
            except OSError as error:
                raise DeployerError("it has died") from error
            reply = self._receive(REPLY_SECONDS)
        if "error" in reply:
            raise DeployerError(f"{command}: {reply['error']}")
        return reply["result"]

    def _receive(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._replies.get(timeout=seconds)
        except queue.Empty:
            self.stop()  # a late answer would be taken for that to the next question
            raise DeployerError(f"no answer within {seconds:g} s") from None
        if line is None:
            raise DeployerError("it has died")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _read(self, process: subprocess.Popen[str]) -> None:
        if process.stdout is not None:
            for line in process.stdout:
                self._replies.put(line)
        self._replies.put(None)


# ---------------------------------------------------------------- in the process


def main() -> int:
    """Do what is asked until standard input ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what Ray prints is no answer
    import ray  # noqa: PLC0415 — not in the process that only asks

    ray.init(address=sys.argv[1], log_to_driver=False)
    print(json.dumps({"result": None}), file=replies, flush=True)
    commands: dict[str, Callable[..., object]] = {
        "serve": _serve,
        "deploy": _deploy,
        "delete": _delete,
        "nodes": _nodes,
    }
    for line in sys.stdin:
        request = json.loads(line)
        try:
            reply = {"result": commands[request["do"]](**request["with"])}
        except Exception as error:  # whatever it is, who asked shall know
            reply = {"error": f"{type(error).__name__}: {error}"[:2000]}
        print(json.dumps(reply), file=replies, flush=True)
    return 0


def _serve(port: int) -> None:
    from ray import serve  # noqa: PLC0415
    from ray.serve.config import HTTPOptions, gRPCOptions  # noqa: PLC0415

    from servestream_client.server import GRPC_SERVICER_FUNCTIONS  # noqa: PLC0415

    serve.start(
        proxy_location="EveryNode",
        http_options=HTTPOptions(host="127.0.0.1"),
        grpc_options=gRPCOptions(port=port, grpc_servicer_functions=GRPC_SERVICER_FUNCTIONS),
    )


def _deploy(**wanted: Any) -> None:  # noqa: ANN401 — JSON
    from ray import serve  # noqa: PLC0415

    from chaos.app import build  # noqa: PLC0415

    deadline = time.monotonic() + REPLY_SECONDS / 2
    while True:
        try:
            serve.run(build(**wanted), name=APPLICATION, route_prefix=f"/{APPLICATION}")
        except Exception:  # the controller may have been killed in the middle of it
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _delete() -> None:
    from ray import serve  # noqa: PLC0415

    serve.delete(APPLICATION)


def _nodes() -> dict[str, bool]:
    import ray  # noqa: PLC0415

    nodes: dict[str, bool] = {}
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        # A node that came back is another one at the same address.
        address = node["NodeManagerAddress"]
        nodes[address] = nodes.get(address, False) or node["Alive"]
    return nodes


if __name__ == "__main__":
    sys.exit(main())
