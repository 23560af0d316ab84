"""Which parts of a side made the score: one file a method."""
