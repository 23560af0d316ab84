"""Pages that open anywhere and ask nothing of a network."""
