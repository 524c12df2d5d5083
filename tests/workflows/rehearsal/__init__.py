"""Workflows, executed as GitHub would, on this machine: every `run:` line really runs.

`forge` holds the repository and starts a run for an event; `job` runs one job; `equivalents` says what stands for the
actions of others; `artifacts` is what jobs leave each other.
"""
