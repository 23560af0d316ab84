"""Models that are loaded in another way than by their weights."""
