"""Simulation: everything a service needs to run without a venue, a network or a wall clock."""
