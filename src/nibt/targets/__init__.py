"""Targets: the numbers that methods explain, one file per target."""
