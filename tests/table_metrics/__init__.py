"""Tests of ``nibt.table_metrics``."""
