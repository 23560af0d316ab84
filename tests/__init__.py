"""Tests of nibt."""

from tests.runtime_types import checked as checked
