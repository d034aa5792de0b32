"""A TCP proxy that does to connections what networks do: cut, hold back, delay, throttle, slice.

::

    with FaultProxy("127.0.0.1:9000") as proxy:
        proxy.add(Cut(after_bytes=10_000, direction=Direction.DOWN), Delay(0.02))
        client = connect(proxy.target)
        ...
        proxy.cut()

Faults may be added and removed at any time, from any thread, in blocking and in async code; a
change holds for all connections when the call returns. The proxies of a process share one event
loop in a thread of its own, so they go on while the loop of a test is blocked.

What faults in force together do to the bytes, in this order: `Deaf`, `Delay`, `Throttle`, `Slice`,
`Cut`. Several delays add up; of several throttles, slices or cuts the tightest counts.
"""

from servestream_client.testing.proxy.face import FaultProxy

__all__ = ["FaultProxy"]
