"""Formats of files of answers."""
