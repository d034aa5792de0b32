"""A Ray cluster of two nodes, each in a network namespace of its own, with Serve on both."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Self

import psutil

from chaos.deploying import Deployer, DeployerError, Deployment
from chaos.network import Machine, Network
from chaos.terminal import Say
from servestream_client.testing.ray_serve.cluster import MARK, end, members, new_directory

__all__ = ["Cluster", "ClusterError"]

GCS_PORT = 6379
PORT = 9000
"""Of the gRPC ingress, on each node: the namespaces are new, and everything in them is free."""
START_SECONDS = 90.0
_LOG_LINES = 25


class ClusterError(Exception):
    """A node did not come up."""


class Cluster:
    """Two nodes. Node 1 has the head, and keeps it.

    Args:
        say: told what is being waited for.
    """

    def __init__(self, say: Say = lambda _: None) -> None:
        self.id: str = uuid.uuid4().hex
        self.network = Network(2)
        self.deployer: Deployer | None = None
        self._say = say
        self._directory: Path | None = None
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._where: dict[int, int] = {}
        self._aborted = False
        self._unended: list[int] = []

    # ---------------------------------------------------------------- life

    def start(self, wanted: Deployment) -> None:
        """Both nodes, Serve, and the application on it.

        Raises:
            NetworkError, ClusterError, DeployerError: it did not come up; nothing of it is left.
        """
        try:
            self._directory = Path(new_directory())
            self.network.up()
            self._say("starting Ray on node 1")
            self._start_head()
            self._say("starting Ray on node 2")
            self.start_worker()
            self._say("starting Serve on both")
            self._deployer().serve(PORT)
            self._say("deploying")
            self._deployer().deploy(wanted)
        except BaseException:  # Ctrl-C as well
            self.stop()
            raise

    def stop(self) -> None:
        """End all of it. Harmless twice."""
        if self.deployer is not None:
            self.deployer.stop()
            self.deployer = None
        end(self.id)
        self._end_machines()
        for node in self._nodes:
            node.wait()
        self._nodes.clear()
        self.network.down()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _end_machines(self) -> None:
        """SIGKILL for whoever is left in the namespaces: Ray's agents write their titles over the
        environment in which the mark stands.
        """
        for machine in self.network.machines:
            found = [each for each in psutil.process_iter() if machine.has(each.pid)]
            for process in found:
                with suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(found, timeout=5)
            self._unended += [each.pid for each in found if machine.has(each.pid)]

    def abort(self) -> None:
        """Let whoever waits for a node or a deployment give up: the cluster will be stopped."""
        self._aborted = True
        if self.deployer is not None:
            self.deployer.stop(grace=0.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def left(self) -> list[str]:
        """What is there although it was stopped."""
        processes = {*(each.pid for each in members(self.id)), *self._unended}
        return [*(f"process {pid}" for pid in sorted(processes)), *self.network.left()]

    # ---------------------------------------------------------------- what it is like

    @property
    def machines(self) -> tuple[Machine, Machine]:
        """Of both nodes."""
        first, second = self.network.machines
        return first, second

    def target(self, machine: Machine) -> str:
        """Where a node's proxy listens."""
        return f"{machine.address}:{PORT}"

    def node_of(self, pid: int) -> int:
        """Which node a process runs on; 0: it was gone before anybody asked."""
        if pid not in self._where:
            numbers = [each.number for each in self.machines if each.has(pid)]
            self._where[pid] = numbers[0] if numbers else 0
        return self._where[pid]

    def deploy(self, wanted: Deployment) -> None:
        """See `Deployer.deploy`."""
        self._deployer().deploy(wanted)

    def nodes_alive(self) -> int:
        """How many nodes Ray believes to be alive."""
        return sum(self._deployer().nodes().values())

    # ---------------------------------------------------------------- nodes

    def start_worker(self) -> None:
        """The second node, for the first time or again.

        Raises:
            ClusterError: it did not come up.
        """
        head, worker = self.machines
        self._start_node(
            worker,
            f"--address={head.address}:{GCS_PORT}",
            # What puts a replica on this node.
            '--resources={"node2":1}',
        )
        self._wait_for(2, "node 2 did not join")

    def kill_worker(self) -> int:
        """SIGKILL for the raylet of the second node, and so for the node. Returns its process."""
        _, worker = self.machines
        for process in self._raylets():
            if worker.has(process.pid):
                process.send_signal(signal.SIGKILL)
                return process.pid
        raise ClusterError("node 2 has no raylet")

    def end_worker(self) -> None:
        """End whatever is left of the second node's processes."""
        _, worker = self.machines
        processes = [each for each in psutil.process_iter() if worker.has(each.pid)]
        for process in processes:
            with suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(processes, timeout=10)

    def worker_lives(self) -> bool:
        """Whether the second node has a raylet. One that was cut off for long ends itself."""
        _, worker = self.machines
        return any(worker.has(process.pid) for process in self._raylets())

    def _raylets(self) -> Iterator[psutil.Process]:
        for process in members(self.id):
            with suppress(psutil.Error):
                if process.name() == "raylet":
                    yield process

    def _start_head(self) -> None:
        head, _ = self.machines
        self._start_node(
            head,
            "--head",
            f"--port={GCS_PORT}",
            "--include-dashboard=false",
            f"--temp-dir={self._directory}",
            '--resources={"node1":1}',
        )
        self._wait_for_gcs(head)
        self._wait_for(1, "node 1 did not come up")

    def _start_node(self, machine: Machine, *arguments: str) -> None:
        command = [
            *machine.inside,
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            f"--node-ip-address={machine.address}",
            "--num-cpus=2",
            f"--object-store-memory={100 * 1024 * 1024}",
            "--block",
            *arguments,
        ]
        with self._log(machine).open("ab") as log:
            node = subprocess.Popen(  # noqa: S603 — Ray, with our own arguments
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment(),
                start_new_session=True,
            )
        self._nodes.append(node)

    def _wait_for_gcs(self, head: Machine) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._nodes[-1].poll() is None:
            with suppress(OSError), socket.create_connection((head.address, GCS_PORT), timeout=1):
                return
            time.sleep(0.2)
        raise ClusterError(f"Ray did not start on node 1:\n{self._logged()}")

    def _wait_for(self, count: int, problem: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and not self._aborted:
            with suppress(DeployerError):
                if self.nodes_alive() >= count:
                    return
            if self._nodes[-1].poll() is not None:
                break
            time.sleep(0.5)
        raise ClusterError(f"{problem}:\n{self._logged()}")

    def _deployer(self) -> Deployer:
        """Made when it is needed first, and again if it has not come up."""
        if self.deployer is None:
            head, _ = self.machines
            deployer = Deployer(
                f"{head.address}:{GCS_PORT}",
                self._environment(),
                prefix=head.inside,
                log=self._directory / "deployer.log" if self._directory else None,
            )
            try:
                deployer.start()
            except DeployerError:
                deployer.stop()
                raise
            self.deployer = deployer
        return self.deployer

    def _environment(self) -> dict[str, str]:
        """Of everything that runs on the nodes."""
        path = os.pathsep.join(filter(None, dict.fromkeys(map(os.path.abspath, sys.path))))
        return {
            **os.environ,
            MARK: self.id,
            "PYTHONPATH": path,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0",
            # `ray start` turns tokens on, and the second node would be refused. Nobody else can
            # reach the namespaces.
            "RAY_AUTH_MODE": "disabled",
            # A proxy prefers the replica on its own node, and few streams would cross from one
            # node to the other.
            "RAY_SERVE_PROXY_PREFER_LOCAL_NODE_ROUTING": "0",
            "RAY_SERVE_LOG_TO_STDERR": "0",
            "OMP_NUM_THREADS": "1",
            "GRPC_VERBOSITY": "ERROR",
        }

    def _log(self, machine: Machine) -> Path:
        return (self._directory or Path()) / f"node{machine.number}.log"

    def _logged(self) -> str:
        text = ""
        for machine in self.machines:
            with suppress(OSError):
                text += self._log(machine).read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-_LOG_LINES:])
