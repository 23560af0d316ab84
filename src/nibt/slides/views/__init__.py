"""The view of slides."""
