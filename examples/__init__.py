"""Runnable examples; `python -m examples.main_job` is the tour."""
