"""One side of a pair, the paths through its layers, and the perturbation of its inputs."""
