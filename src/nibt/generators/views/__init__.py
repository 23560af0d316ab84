"""The view of answers."""
