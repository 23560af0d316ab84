"""Methods that explain answers only."""
