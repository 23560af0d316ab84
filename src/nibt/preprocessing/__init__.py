"""From an image or a caption to what a tower is given, and which part of the original it saw."""
