"""One stream over its attempts: inputs, answers, retry, and what both faces have in common.

`driver` owns one stream's input pump and its attempts, `retry` says on tenacity when to try
again, and `stream` is what users iterate.
"""
