"""The command grammar."""
