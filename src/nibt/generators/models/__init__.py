"""Families that only write."""
