"""Binance COIN-M futures."""
