"""Several runs side by side: what differs in them, and whether the difference is more than chance."""
