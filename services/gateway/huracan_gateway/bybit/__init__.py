"""Bybit futures: perpetual and dated, linear and inverse."""
