"""Floor 2: attempts in turn.

`driver` owns one stream's input pump and its attempts, `retry` says on tenacity when to try
again, and `stream` is what users iterate.
"""
