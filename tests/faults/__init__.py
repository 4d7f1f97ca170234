"""What dies, dies in one installation, which ends with the last of these tests."""
