"""The `huracan` command."""
