"""Pure functions from tensors to tensors: they know no model, no config, no Ray."""
