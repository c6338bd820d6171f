"""Loops that read as prose: supervised fine-tuning, reward model, PPO. No Ray here."""
