"""The one feature engine: live, replay and training read features from here."""
