"""The demo's last words: the accuracies that lm-eval wrote, whole model against pruned one, side by side.

python -m lm_eval_ext.testbed.comparison FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


def rows(folder: Path) -> list[tuple[str, str, float]]:
    """Model, task and accuracy of every result below `folder`."""
    found = []
    for path in sorted(folder.rglob("results_*.json")):
        results: dict[str, Any] = json.loads(path.read_text("utf-8"))
        dropped = results["config"]["pruning"]["dropped_layers"]
        model = f"without layers {', '.join(map(str, dropped))}" if dropped else "whole"
        found += [(model, task, float(metrics["acc,answer"])) for task, metrics in results["results"].items()]
    return found


def main() -> None:
    """Print the table."""
    folder = Path(sys.argv[1])
    print(f"\n{'model':30}{'task':20}{'accuracy':>10}")
    for model, task, accuracy in rows(folder):
        print(f"{model:30}{task:20}{accuracy:10.2f}")
    print(f"\nResults and every sample: {folder}")


if __name__ == "__main__":
    main()
