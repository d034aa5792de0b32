import subprocess
import sys

import psutil


def test_a_pool_ends_with_its_parent():
    """A parent that is killed can end nobody; its processes notice by themselves."""
    command = [sys.executable, "-m", "simulation", "--seeds", "100000", "--jobs", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as parent:
        own = psutil.Process(parent.pid)
        while len(workers := own.children(recursive=True)) < 2:
            assert parent.poll() is None
        parent.kill()
    _, left = psutil.wait_procs(workers, timeout=30)
    for process in left:
        process.kill()
    assert not left
