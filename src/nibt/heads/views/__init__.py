"""The view of the heads of a tower."""
