"""Targets: the numbers that methods explain, those of a similarity in one file."""
