"""Images, captions and their units."""
