"""Seeded faults against the whole system on virtual time, and the ledger that says what came of them."""
