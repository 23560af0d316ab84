"""HTML pages of results, which need no network."""
