"""Other systems that run many small jobs, each in a few lines, for B3. They run in an environment of their own."""
