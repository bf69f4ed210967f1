"""Measure a machine: timing harness, HE operations, garbling, oblivious transfer, loopback."""
