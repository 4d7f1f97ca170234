"""The fault lab: a real installation under load, faults from a seed, and the proof that nothing was lost."""
