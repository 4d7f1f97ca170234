"""People at the pages of one installation, which ends with the last of these tests."""
