"""Wire contracts: generated code in `huracan` and `trading`, and beside it the only constructors of messages."""
