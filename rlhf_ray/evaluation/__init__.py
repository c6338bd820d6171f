"""Proof: the same held-out prompts before and after, with intervals, and the pages that show them."""
