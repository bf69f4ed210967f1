"""Repeatable measurements of our own speed and accuracy.

`python -m benchmarks.NAME [--quick] [--json] [--budget-s N]`
"""
