"""What the three markets of Binance share: USD-M futures, COIN-M futures, spot."""
