"""The executor: decisions in, risk-checked orders, fills and one exact account out."""
