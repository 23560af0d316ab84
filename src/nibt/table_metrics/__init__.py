"""Metrics of word-region tables."""
