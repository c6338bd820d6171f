"""The doors: `python -m jobs.NAME CONFIG key=value …`. A job loads its config, connects, and calls one function."""
