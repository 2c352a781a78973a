"""Tests that break things on purpose; ``--dose full`` breaks them as often as is reported."""
