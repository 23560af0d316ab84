"""Metrics of attributions, one file per idea."""
