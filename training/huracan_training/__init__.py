"""Datasets, labels, models, evaluation and the registry: what trains and judges the experts."""
