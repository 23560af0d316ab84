"""Models that write text about an image, word by word."""
