"""The writers of families."""
