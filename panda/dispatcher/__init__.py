"""Pilots ask, jobs answer: claims, reports, heartbeats."""
