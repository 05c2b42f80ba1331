"""Buses: subjects, the in-memory bus, acknowledged publishing with an outbox."""
