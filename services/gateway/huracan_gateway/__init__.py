"""The market-data gateway: raw frames in; ticks, bars and windows of features out."""
