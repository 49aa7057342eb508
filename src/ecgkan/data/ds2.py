"""DS2, the test records of protocol `inter-patient`: for scoring what is finished, never for training.

It stands apart from `ecgkan.data.protocols` so that import-linter can hold the rule: training imports no way to it.
"""

from pathlib import Path

from ecgkan.data.beat_table import BeatTable, load_beat_table
from ecgkan.data.context_table import ContextTable, read_context_table
from ecgkan.data.mitdb import DS2, database_dir


def load_test_beats(data_dir: Path | None = None, *, use_cache: bool = True) -> BeatTable:
    """Load the 49,693 beats of DS2's 22 records, lead by name; see `load_inter_patient_split`.

    Each scoring of them is counted in a committed log (`ecgkan.evaluation.ds2_log`).
    """
    return load_beat_table(data_dir, records=DS2, lead_by_name=True, use_cache=use_cache)


def load_test_context(data_dir: Path | None = None) -> ContextTable:
    """Load DS2's beats in their context, as the models for new patients see them; all beats, also at the edges."""
    return read_context_table(database_dir("mitdb", data_dir), records=DS2)
