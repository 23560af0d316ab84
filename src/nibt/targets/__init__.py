"""What number is explained: one file a target."""
