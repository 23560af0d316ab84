"""The views of kinds of results."""
