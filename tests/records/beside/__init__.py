"""Tests of what lies beside the rows."""
