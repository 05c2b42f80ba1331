"""Make a trained net small and fast to serve: channels taken out, INT8, and proof that it says what it said."""
