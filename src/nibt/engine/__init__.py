"""Computation of results from a request and pairs of inputs."""
