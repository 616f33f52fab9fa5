"""Benchmarks: `python -m benchmarks NAME` prints JSON. Nothing imports this package."""
