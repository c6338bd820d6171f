"""Tables in, prompts out."""
