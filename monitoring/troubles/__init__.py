"""What is wrong now, since when, whom it hits, and where it is mended: a finder for each kind."""
