"""Whole jobs on one installation, which ends with the last of these tests."""
