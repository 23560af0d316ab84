"""Data sets, with one file or folder each."""
