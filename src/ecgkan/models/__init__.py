"""Models: the Kolmogorov-Arnold layer, the CNN with either head, and their checkpoints."""
