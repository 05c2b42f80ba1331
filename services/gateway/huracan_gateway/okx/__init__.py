"""OKX futures: perpetual swaps and dated futures, linear and inverse."""
