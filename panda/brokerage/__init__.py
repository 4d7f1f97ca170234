"""Which queue a job goes to, and why not the others."""
