"""Where the pairs of a job come from."""
