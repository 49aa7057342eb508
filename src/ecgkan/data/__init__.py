"""Data: recordings, the databases, R peaks, beats, and the protocols that split them."""
