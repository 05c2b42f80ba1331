"""The orchestrator: opinions in, one explained decision per strategy, instrument and step out."""
