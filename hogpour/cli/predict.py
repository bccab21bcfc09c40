"""``hogpour predict``: what a saved model says of examples in a file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from hogpour.cli.options import add_json
from hogpour.core.text import printable

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what ``predict`` takes."""
    parser.description = "Print the prediction of a model for every example of a data file, one a line; where the " \
                         "file has labels, the accuracy goes to standard error."  # fmt: skip
    parser.epilog = (
        'example: python -m hogpour predict model.safetensors digits\n"digits" stands for their test examples.'
    )
    parser.add_argument("model", help="model file")
    parser.add_argument("data", help='data file, or "digits"')
    known = "npz, npy, idx, svmlight, csv, vw, libffm or fasttext"
    parser.add_argument("--format", default="", help=f"{known}; default: by the suffix")
    add_json(parser)


def run(options: argparse.Namespace) -> int:
    """Print the prediction for every example of a file and return the exit code."""
    from hogpour.cli.tables import cell, print_json
    from hogpour.data.load import Dataset, load_features
    from hogpour.model.model import Model

    model = Model.load(options.model)
    features = load_features(options.data, model.encoding, format=options.format, base=Path())
    scores = model.scores_of_scaled(features.x, features.source)
    predicted = model.job.loss.predict(scores.T)
    labels, names = model.job.loss.targets == "labels", model.encoding.label_names
    if labels:
        shown = names if options.json else tuple(map(printable, names))  # one a line, on a terminal perhaps
        answers = [shown[k] if names else str(k) for k in predicted]
    else:
        answers = [row.tolist() if options.json else " ".join(f"{v:.6g}" for v in row) for row in predicted.T]
    if options.json:
        for k, answer in enumerate(answers):
            print_json(example=k, prediction=answer)
    else:
        sys.stdout.write("".join(f"{answer}\n" for answer in answers))
    sys.stdout.flush()  # before a word about predictions that do not arrive
    if features.y is not None:
        evaluation = model.evaluate(Dataset(features.x, features.y, len(names), names, features.source))
        assert evaluation is not None
        accuracy = "" if evaluation.accuracy is None else f", accuracy {evaluation.accuracy:.4f}"
        print(f"{len(answers)} examples: loss {cell(evaluation.loss)}{accuracy}", file=sys.stderr)  # noqa: T201
    elif features.no_y:
        print(f"{len(answers)} examples: no {'accuracy' if labels else 'loss'}: {features.no_y}", file=sys.stderr)  # noqa: T201
    return 0
