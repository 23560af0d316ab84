"""Metrics of attributions, one file per metric."""
