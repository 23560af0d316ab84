"""File formats of results, one file per format."""
