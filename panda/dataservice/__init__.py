"""Datasets, files, replicas, and the transfers that place them."""
