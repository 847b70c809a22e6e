"""A bundle against what users make by hand: modules compiled one by one, a loop in Python."""
