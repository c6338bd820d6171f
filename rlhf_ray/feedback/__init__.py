"""Thumbs: what people said about a model's answers."""
