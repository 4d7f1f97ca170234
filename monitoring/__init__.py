"""The web pages and, behind the same login, Flower. Here: the process; the pages are in `pages`."""
