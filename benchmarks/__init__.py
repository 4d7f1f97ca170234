"""What `make bench` runs: figures of the real system, each beside what was asked of it."""
