"""Engines: those who decode for the sampler. They differ in speed and in what they promise, not in what they return."""
