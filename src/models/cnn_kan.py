"""`from src.models.cnn_kan import ECGCNNWithKAN`, as the reference's model card writes it."""

from ecgkan.models.cnn_kan import ECGCNNWithKAN

__all__ = ["ECGCNNWithKAN"]
