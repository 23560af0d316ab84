"""Evaluation of methods and models: metrics, benchmarks, audits and ROAR."""

CONTROLS = ("random", "center", "ones")
"""Methods that do not use the model. Every evaluation includes them as negative controls."""
