"""The verbs, a module for each kind; `panda.cli.main` loads the one that is asked for."""
