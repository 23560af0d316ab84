"""From a request and pairs to results."""
