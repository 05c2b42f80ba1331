"""Stores: where decisions and what they rest on are kept."""
