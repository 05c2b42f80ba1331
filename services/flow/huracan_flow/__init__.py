"""The order-flow expert: what resting and arriving orders say about the next second."""
