"""Pilots for queues: how many are wanted, and who starts them."""
