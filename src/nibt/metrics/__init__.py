"""How good an attribution is: one file a metric."""
