"""`from src.models.cnn import ECGCNN`, as the reference's model card writes it."""

from ecgkan.models.cnn import ECGCNN

__all__ = ["ECGCNN"]
