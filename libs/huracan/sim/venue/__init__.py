"""Venues on this machine: the public websocket and REST protocols of Binance USD-M, OKX and Bybit, and faults."""
