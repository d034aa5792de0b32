"""Which process of a cluster is which, by the titles that Ray gives them."""

from __future__ import annotations

import enum
from pathlib import Path

import psutil

from servestream_client.testing.ray_serve.cluster import members

__all__ = ["Role", "find", "raylet"]


class Role(enum.StrEnum):
    """What processes of a cluster do."""

    REPLICA = "replica"
    PROXY = "proxy"
    """Serve's proxy in Python; what manages HAProxy is of its kind."""
    HAPROXY = "haproxy"
    CONTROLLER = "controller"


_TITLES = {
    Role.REPLICA: ("ray::ServeReplica:chaos:",),
    Role.PROXY: ("ray::ProxyActor", "ray::HAProxyManager"),
    Role.HAPROXY: ("haproxy",),
    Role.CONTROLLER: ("ray::ServeController",),
}


def find(cluster_id: str, role: Role) -> list[psutil.Process]:
    """The processes with that role that are alive, in the order of their ids."""
    found = [each for each in members(cluster_id) if _title(each).startswith(_TITLES[role])]
    return sorted(found, key=lambda process: process.pid)


def raylet(cluster_id: str) -> psutil.Process:
    """
    Raises:
        LookupError: there is none.
    """
    for process in members(cluster_id):
        if _title(process) == "raylet":
            return process
    raise LookupError("the cluster has no raylet")


def gcs_address(cluster_id: str) -> str:
    """Where drivers find the cluster.

    Raises:
        LookupError: it does not run.
    """
    for argument in raylet(cluster_id).cmdline():
        name, _, value = argument.partition("=")
        if name == "--gcs-address":
            return value
    raise LookupError("the raylet does not say where its GCS is")


def _title(process: psutil.Process) -> str:
    try:
        command = process.cmdline()
        if process.status() == psutil.STATUS_ZOMBIE or not command:
            return ""
    except psutil.Error:  # gone
        return ""
    return Path(command[0]).name if not command[0].startswith("ray::") else command[0]
