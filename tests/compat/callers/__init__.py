"""Code as applications have it, written with torch's own names, and run unchanged on torch's stack and on qcore.

Each public function of these modules is a caller: it returns what it computed, by name. `tests.compat.run` runs them.
"""
