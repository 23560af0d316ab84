"""Results about answers."""
