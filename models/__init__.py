"""Predict: operation, layer and network latency models, from a plan on a deployment."""
