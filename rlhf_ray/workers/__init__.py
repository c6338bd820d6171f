"""The three workers: the Sampler speaks, the Scorer judges, the Learner improves. Plain classes, no Ray."""
