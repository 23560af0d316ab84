"""Formats of files of audits."""
