"""Deterministic simulation: client, network and server kit in one thread of virtual time.

A run is a function of its seed alone: the seed draws a scenario (streams, consumers, limits, a
network and its faults), the scenario plays on an event loop whose clock only moves when nobody has
anything to do, and the promises of the README are checked at its end. Whatever goes wrong can be
replayed with ``python -m simulation --seed N``.
"""
