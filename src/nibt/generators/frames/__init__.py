"""Answers in tables."""
