"""What serves models: bundles, and the engines within them."""
