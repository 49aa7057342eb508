"""On which beats the KAN head of a model is studied, and what the head's inputs are there.

Test beats choose nothing, and here edges are chosen. A model of protocol `random-split` has validation beats. Those of
protocol `inter-patient` were trained on all of DS1, and DS2 is for scoring alone: so the beats that trained them are
the only ones left, and everything that is told of them says so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ecgkan.data.context import CONTEXT_FEATURES
from ecgkan.data.context_table import ContextTable, load_training_context
from ecgkan.data.protocols import BeatSplit, load_split
from ecgkan.evaluation.evaluate import BATCH_SIZE, PROTOCOL_NOTES
from ecgkan.models.checkpoint import Checkpoint
from ecgkan.models.kan_edges import in_batches
from ecgkan.models.patient import COMPARISONS, FEATURES, SHAPE_FEATURES, PatientClassifier
from ecgkan.studies.kan_edges.inputs import InputNames

TRAINING_PATIENTS_NOTE: Final = (
    "These are the beats of DS1, the patients the model was trained on: the figures say how the trained head works, "
    "not how well it does on a new patient."
)
"""The line that everything studied on training beats carries."""

LEARNED: Final = "learned shape"
KINDS: Final = (
    *(LEARNED for _ in range(SHAPE_FEATURES)),
    *("comparison with the average beat" for _ in COMPARISONS),
    *("rhythm and neighbours" for _ in CONTEXT_FEATURES),
)
"""What kind of input each of `ecgkan.models.patient.FEATURES` is."""

Subset = Literal["validation", "training patients"]


@dataclass(frozen=True, slots=True, eq=False)
class StudiedBeats:
    """Beats as a head sees them.

    Attributes
    ----------
    features : Tensor
        `[n, in]` float32, the head's input.
    labels : ndarray
        `[n]` int64, reference classes.
    protocol : str
        Whose beats they are.
    subset : {"validation", "training patients"}
        Which of the protocol's.
    inputs : InputNames or None
        What the head's inputs are, where they have names.
    class_shift : Tensor or None
        `[classes]`, what the model adds to the head's logits.
    """

    features: Tensor
    labels: NDArray[np.int64]
    protocol: str
    subset: Subset
    inputs: InputNames | None = None
    class_shift: Tensor | None = None

    @property
    def described(self) -> str:
        """The beats in words, with their number."""
        which = "validation beats" if self.subset == "validation" else "beats of training patients"
        return f"{len(self.labels):,} {which}"

    @property
    def notes(self) -> tuple[str, ...]:
        """What every output carries, a line each."""
        notes = (PROTOCOL_NOTES.get(self.protocol, ""), "" if self.subset == "validation" else TRAINING_PATIENTS_NOTE)
        return tuple(note for note in notes if note)


def load_studied_beats(
    checkpoint: Checkpoint, data_dir: Path | None = None, *, announce: Callable[[str], None] = lambda _: None
) -> StudiedBeats:
    """Load the beats on which a model's head is studied, and compute the head's inputs.

    Raises
    ------
    DataError, DataNotFoundError
        If the data cannot be used.
    """
    announce("reading beats")
    if isinstance(checkpoint.model, PatientClassifier):
        return _beats_in_context(checkpoint.model, load_training_context(data_dir), announce)
    # Weights of unknown origin, such as the published reference's, are taken for models of its protocol.
    split = load_split("random-split" if checkpoint.protocol == "unknown" else checkpoint.protocol, data_dir)
    subset: Subset = "training patients" if split.protocol == "inter-patient" else "validation"
    chosen = split.validation if subset == "validation" else split.train
    announce(f"features of {len(chosen):,} beats")
    return StudiedBeats(beat_features(checkpoint, split, chosen), split.table.labels[chosen], split.protocol, subset)


def beat_features(checkpoint: Checkpoint, split: BeatSplit, chosen: NDArray[np.int64]) -> Tensor:
    """Return the input of a single-beat model's head at chosen beats of a split: `[n, features]` float32."""
    beats = torch.from_numpy(split.table.model_input(chosen))
    return in_batches(checkpoint.beat_model.get_features, beats, size=BATCH_SIZE)


def _beats_in_context(model: PatientClassifier, table: ContextTable, announce: Callable[[str], None]) -> StudiedBeats:
    """See the beats that the protocol counts, in the lead chosen by name, as `ecgkan classify` does."""
    announce(f"features of {int(table.counted.sum()):,} beats")
    context, counted = table.model_input(), table.counted
    inputs = torch.from_numpy(context.shapes[counted]), torch.from_numpy(context.rhythm[counted])
    return StudiedBeats(
        features=in_batches(model.get_features, *inputs, size=BATCH_SIZE),
        labels=table.labels[counted],
        protocol="inter-patient",
        subset="training patients",
        inputs=InputNames(FEATURES, KINDS, LEARNED, model.in_own_units),
        class_shift=model.class_shift,
    )
