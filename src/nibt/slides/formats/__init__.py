"""Formats of files of slides."""
