"""What single heads add."""
