"""What is known about clouds, sites, storages and queues: who says it, since when, and what it was before."""
