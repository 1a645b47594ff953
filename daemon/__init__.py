"""The running process and its faces."""
