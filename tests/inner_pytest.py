"""How pytest is run within a test, as another project would run it."""

__all__ = ["OPTIONS"]

OPTIONS = ("-p", "no:randomly", "-p", "no:hypothesispytest")
"""In their order. Hypothesis's plugin takes as long to start as all the rest together."""
