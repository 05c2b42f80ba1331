"""Logs of ticks, features and journals."""
