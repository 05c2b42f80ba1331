"""Servers and programs that Huracan starts by itself on one machine, and keeps running."""
