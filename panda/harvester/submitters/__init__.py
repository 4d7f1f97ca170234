"""Ways to start a pilot, by entry point `panda.submitters`."""
