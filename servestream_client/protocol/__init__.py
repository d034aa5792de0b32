"""The protocol as pure state machines. No IO, no clock, no randomness, no Ray.

`frames` is the vocabulary, `states` the tables of what may follow what, `pacing`, `credit` and
`numbers` the counters, and `client` and `server` the two roles. docs/protocol.md is the
specification; where it and this package disagree, one of them has a bug.
"""
