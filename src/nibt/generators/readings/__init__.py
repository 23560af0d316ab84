"""What nibt reads of a generator."""
