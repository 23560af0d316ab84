"""What is decided about answers, by the kind of result."""
