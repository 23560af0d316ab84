"""Evaluation of methods and models: metrics, benchmarks, audits and ROAR."""

CONTROLS = ("random", "centre", "ones")
"""Maps that know nothing of the model: every evaluation includes them as negative controls."""
