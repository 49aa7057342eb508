"""Studies: what needs both training and inference."""
