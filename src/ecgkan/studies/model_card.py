"""Model cards of the shipped models, in the format of the Hugging Face Hub, filled from their figures."""

from typing import Any, Final

from ecgkan.aami import CLASS_MEANINGS, CLASSES
from ecgkan.data.protocols import SHARED_PATIENTS_NOTE
from ecgkan.evaluation.evaluate import MODEL_TITLES
from ecgkan.evaluation.tables import markdown_table
from ecgkan.studies.by_record_page import card_ec57, card_failures
from ecgkan.studies.random_split import Run, over_seeds
from ecgkan.studies.results_page import FIGURES, OVERALL, figure_of

HEADS: Final = {
    "cnn_mlp": ("ECGCNN", "an MLP head (256 → 128 → 64 → 5)"),
    "cnn_kan": ("ECGCNNWithKAN", "a Kolmogorov-Arnold head (two KAN layers 256 → 64 → 5, cubic B-splines on [-3, 3])"),
}


def model_card(
    entry: dict[str, Any],
    document: dict[str, Any],
    results: dict[Run, dict[str, Any]],
    by_record: dict[str, Any] | None,
) -> str:
    """Return the card of one shipped model as Markdown with YAML front matter.

    Parameters
    ----------
    entry : dict
        The model's part of the evaluation document.
    document : dict
        The evaluation document, for versions and the command.
    results : dict
        Results of the study's runs, for mean and standard deviation over seeds.
    by_record : dict, optional
        What `ecgkan.studies.by_record` measured of these weights.
    """
    model = entry["model"]
    title = MODEL_TITLES[model]
    class_name, head = HEADS[model]
    training = entry["training"]
    parts = [
        _front_matter(entry),
        f"# {title}: single heartbeats into the AAMI classes N S V F Q",
        f"A 1-D CNN encoder with {head}, {entry['parameters']:,} parameters. Part of ecgkan; weights in `{model}.pth`, "
        f"SHA-256 `{entry['weights_sha256']}`.",
        "**A research tool, not a medical device.** Do not use it for diagnosis or to guide treatment.",
        f"**{SHARED_PATIENTS_NOTE}**",
        "## Use",
        "```python\nfrom ecgkan import classify, read_recording\n\n"
        f'annotations = classify(read_recording("path/to/record"), model="{model}")\n'
        "print(annotations.to_dataframe())\n```",
        f'Single beats: `ecgkan.load_model("{model}")` is an `{class_name}` in eval mode; it takes z-scored windows '
        "`[batch, 1, 256]` and returns logits in the class order N S V F Q. Divide them by the temperature "
        f"{entry['temperature']:.3f} (fitted on the validation set, stored in the checkpoint) before the softmax.",
        _classes_table(),
        "## Data and protocol",
        "MIT-BIH Arrhythmia Database 1.0.0 (48 records, 47 subjects; Moody & Mark 2001, ODC-By 1.0), protocol "
        "`random-split` (docs/protocol.md): signal 0 of each record at 360 Hz (MLII; V5 in 102, 104 and 114), "
        "256 samples around each reference annotation, z-scored beat by beat; "
        "76,615 beats to train, 16,418 to validate, 16,418 to test, split at random with random_state 42.",
        "## Training",
        f"Recipe `{training['recipe']}` (its fields are in the checkpoint), seed {training['seed']}, chosen among "
        f"{_count(results, training['recipe'], model)} seeds by validation macro F1 "
        f"({training['validation']['macro_f1']:.4f}) before any test beat was scored. Command: "
        f"`ecgkan train --model {model} --recipe {training['recipe']} --seed {training['seed']} --out DIR`.",
        "## Figures",
        f"Test set, {entry['beats']:,} beats, 95 % bootstrap intervals over beats. "
        f"Command: `{document['command']} --out DIR`, ecgkan {document['ecgkan']}.",
        _figures_table(entry),
        "Confusion matrix (rows reference, columns predicted):",
        markdown_table(
            ["", *CLASSES],
            [[letter, *map(str, row)] for letter, row in zip(CLASSES, entry["confusion"]["counts"], strict=True)],
        ),
        _over_seeds(results, training["recipe"], model),
        card_ec57(by_record),
        card_failures(by_record),
        "## Intended use and limits",
        "- For research on heartbeat classification and for comparing classifier heads.\n"
        "- One database: 48 records of 47 patients, 44 of 43 without pacing (201 and 202 are one person).\n"
        "- New patients, other leads, electrodes and recorders were not tested by this protocol; expect lower "
        "figures there, most of all for S and F. For new patients there are `patient_mlp` and `patient_kan`.\n"
        "- F is close to unlearnable here: 734 of the database's 802 F beats are of records 208 and 213, so figures of "
        "F tell how well these two are remembered. Half of all S beats, 1,382 of 2,781, are record 232's. Class Q is "
        "nearly all paced beats of four patients.\n"
        "- One window of 0.71 s: rhythm is not seen, so a premature but normally shaped beat is told by what of its "
        "neighbours the window shows.\n"
        "- The window must be centred on the R peak, as reference annotations are; detectors place it a little "
        "differently.",
        "## Citation",
        "Moody GB, Mark RG. The impact of the MIT-BIH Arrhythmia Database. "
        "IEEE Eng in Med and Biol 20(3):45-50 (2001).\n"
        "Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet. Circulation 101(23):e215-e220 (2000).",
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(entry: dict[str, Any]) -> str:
    metrics = {"accuracy": "accuracy", "f1": "macro_f1"}
    lines = [
        "---",
        "license: mit",
        "library_name: ecgkan",
        "tags: [ECG, arrhythmia, heartbeat-classification, MIT-BIH, AAMI, pytorch"
        + (", KAN, kolmogorov-arnold-network]" if entry["model"] == "cnn_kan" else "]"),
        "model-index:",
        f"- name: ecgkan {entry['model']}",
        "  results:",
        "  - task: {type: time-series-classification, name: Heartbeat classification}",
        "    dataset: {type: mitdb, name: 'MIT-BIH Arrhythmia Database, protocol random-split', split: test}",
        "    metrics:",
    ]
    for kind, name in metrics.items():
        lines.append(f"    - {{type: {kind}, name: {OVERALL[name]}, value: {entry['metrics'][name]['value']:.4f}}}")
    return "\n".join([*lines, "---"])


def _classes_table() -> str:
    return markdown_table(["class", "meaning"], CLASS_MEANINGS.items())


def _figures_table(entry: dict[str, Any]) -> str:
    rows = [[title, *_value_and_interval(entry["metrics"][name])] for name, title in OVERALL.items()]
    for letter in CLASSES:
        for name, title in (("f1", "F1"), ("recall", "Se"), ("precision", "+P"), ("auc", "AUC")):
            rows.append([f"{title} {letter}", *_value_and_interval(entry["classes"][letter][name])])
    error = entry["metrics"]["calibration_error"]
    rows.append([f"calibration error ({error['bins']} bins)", f"{error['value']:.4f}", "–"])
    return markdown_table(["figure", "value", "95 % interval"], rows)


def _value_and_interval(figure: dict[str, Any]) -> list[str]:
    """Format a figure and its interval; an undefined one (0/0) as a dash."""
    value, interval = figure["value"], figure.get("interval_95")
    return [
        "–" if value is None else f"{value:.4f}",
        "–" if interval is None else f"{interval[0]:.4f} to {interval[1]:.4f}",
    ]


def _count(results: dict[Run, dict[str, Any]], recipe: str, model: str) -> int:
    return sum((run.recipe, run.model) == (recipe, model) for run in results)


def _over_seeds(results: dict[Run, dict[str, Any]], recipe: str, model: str) -> str:
    group = [result for run, result in results.items() if (run.recipe, run.model) == (recipe, model)]
    rows = []
    for name in FIGURES:
        over = over_seeds([figure_of(result, name) for result in group])
        rows.append([name, f"{over.mean:.1f} ± {over.sd:.1f}" if name == "epochs" else str(over)])
    return (
        f"Over {len(group)} seeds (mean ± standard deviation, test set; command `ecgkan compare`):\n\n"
        + markdown_table(["figure", "mean ± sd"], rows)
    )
