"""The two kinds of model: a policy that speaks and a scalar model that gives one number a token."""
