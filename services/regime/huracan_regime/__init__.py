"""The regime expert: which of four kinds of market this is, and what each kind makes of the order flow."""
