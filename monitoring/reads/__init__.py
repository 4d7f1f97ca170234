"""What pages ask the database: block by block, bounded, never through all jobs."""
