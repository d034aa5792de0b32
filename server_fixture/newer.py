"""The applications that are redeployed, in their second releases, under the same names."""

from __future__ import annotations

from server_fixture.builders import enrolled
from server_fixture.folding import FoldingAnew

__all__ = ["folding"]

folding = enrolled(FoldingAnew)
