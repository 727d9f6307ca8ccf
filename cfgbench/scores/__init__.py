"""From features to scores, their error bars, and what is decided by them."""
