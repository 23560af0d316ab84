"""What is decided about images with captions, by the kind of result."""
