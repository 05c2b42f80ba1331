"""Live venues: one way to connect, wait, retry and count, for every adapter."""
