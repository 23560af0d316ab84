"""Images, captions and their units: what is explained."""
