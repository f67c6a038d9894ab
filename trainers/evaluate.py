"""Evaluate a saved model: accuracy, loss, per-class precision, recall and F1, and the confusion matrix; an autoencoder's error.

usage: python -m trainers.evaluate MODEL [MODEL …] [--data NAME] [--split test|holdout] [--json]

It reads the locked test part, or the hold-out by --split=holdout. What it prints of the locked part is a result: nothing
(model, epoch or setting) may be chosen by it. Each reading is put on the model's record, and on that of its study.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from paretune.core.command_line import SentenceParser, exit_with_sentence


def main(arguments: Sequence[str] | None = None) -> int:
    first, _, caution = __doc__.strip().split("\n\n")
    parser = SentenceParser(prog="python -m trainers.evaluate", description=first, epilog=caution, allow_abbrev=False)
    parser.add_argument("models", nargs="+", metavar="MODEL", help="folder of a saved model")
    parser.add_argument("--data", help="another set to evaluate on (default: the one it was trained on)")
    parser.add_argument(
        "--split", choices=["test", "holdout"], default="test", help="which part is read (default: test, the locked part)"
    )
    parser.add_program()
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps")
    parser.add_argument("--json", action="store_true", help="one JSON object per model")
    options = parser.parse_args(arguments)
    from paretune.models.evaluation import evaluate_saved, report_text
    from paretune.models.programs import load_programs
    from paretune.models.saved_models import describe

    with exit_with_sentence():
        load_programs(options.program)
        for model in options.models:
            result = evaluate_saved(model, data_name=options.data, split=options.split, device=options.device)
            if "data_options" not in describe(model):
                print(f"{model} was trained on unknown data: it may have seen these images", file=sys.stderr)
            if options.json:
                print(json.dumps({"model": model, "split": options.split, **result.to_dict()}))
                continue
            values = "  ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
            print(f"{model} on {result.n_samples:,} images of the {options.split} part: {values}\n")
            print(report_text(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
