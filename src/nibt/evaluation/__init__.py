"""How good maps are: metrics of many pairs, benchmarks, audits and retraining."""
