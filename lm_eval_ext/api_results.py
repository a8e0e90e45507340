"""Public Python API for results: the functions behind `import lm_eval_ext as tts` that read, compare and show runs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lm_eval_ext.errors import ArgumentError

if TYPE_CHECKING:
    from lm_eval_ext.analysis.compare_text import Comparison
    from lm_eval_ext.analysis.diagnosis import Diagnosis
    from lm_eval_ext.runs.catalogue import Catalogue
    from lm_eval_ext.runs.load import Runs
    from lm_eval_ext.runs.run import Run

logger = logging.getLogger("lm_eval.tts")


def read_runs(*folders: str | Path, site: str | Path | None = None) -> Runs:
    """Read all runs in some folders and their subfolders: lm-eval results and published runs.

    Args:
        folders: folders that contain `results_*.json` or `run.json` at any depth, or such files.
        site: another `site.yaml`, which defines the accuracy of each benchmark.

    Raises:
        ResultsError: a file is invalid (the message names file and field), or a folder contains no results.

    >>> from lm_eval_ext.paths import LEADERBOARD
    >>> table = read_runs(LEADERBOARD / "results").to_frame()
    >>> round(float(table.query("model == 'dense' and task == 'tts_chain_b128'").accuracy.mean()), 2)
    0.93
    """
    from lm_eval_ext.runs.load import Runs
    from lm_eval_ext.runs.load import load as load_sources

    sources = load_sources([Path(folder) for folder in folders], _catalogue(site))
    return Runs((source.run for source in sources), sources)


def compare(
    base: str | Path | Run,
    candidate: str | Path | Run,
    *,
    keep: float | None = None,
    on: Sequence[str] = (),
    all_budgets: bool = False,
    allow: Sequence[str] = (),
    same_prompts: bool = False,
) -> Comparison:
    """Compare a smaller model with its base: what it keeps, what thinking and voting still gain, and what answers cost.

    Args:
        base, candidate: folder of results of one model, a results file, a published run, or a run that `evaluate`
            returned.
        keep: share of the base's accuracy that must be kept, for a verdict.
        on: benchmarks to compare; all by default.
        all_budgets: whether every budget decides the verdict, and not only the largest.
        allow: `("sampling",)` if the sampling parameters may differ.
        same_prompts: refuse models with different chat templates, tokenizers or thinking formats.

    Raises:
        ResultsError: a path holds no results or several models, or the results can't be compared.

    >>> runs = "leaderboard/results/tiny-chain"
    >>> found = compare(f"{runs}/tiny-chain-dense-fc97c339", f"{runs}/tiny-chain-shortgpt-2-555e0f3e", keep=0.9)
    >>> found.verdict
    'lost'
    """
    from lm_eval_ext.analysis.compare import Options
    from lm_eval_ext.analysis.compare import compare as compared
    from lm_eval_ext.runs.catalogue import read_catalogue
    from lm_eval_ext.runs.run import Run

    if keep is not None and not 0 < keep < 1:
        raise ArgumentError(f"keep={keep}; expected a share between 0 and 1, such as 0.95")
    if unknown := set(allow) - {"sampling"}:
        raise ArgumentError(f"allow={min(unknown)}; expected: sampling")
    options = Options(keep, tuple(on), all_budgets, tuple(allow), same_prompts)
    models = [given if isinstance(given, Run) else Path(given) for given in (base, candidate)]
    return compared(models[0], models[1], read_catalogue(), options)


def diagnose(run: str | Path) -> Diagnosis:
    """Measure signs of repetition, diversity and reflection in the traces of a run; needs its samples, but no model.

    Args:
        run: folder of results of one model, a results file, or a published run.

    Raises:
        ResultsError: the path holds no results, or those of several models.

    >>> found = diagnose("leaderboard/results/tiny-chain/tiny-chain-dense-fc97c339")
    >>> found.tasks["tts_chain_b128"]["repeated"]
    0.0
    """
    from lm_eval_ext.analysis.diagnosis import diagnose as diagnosed
    from lm_eval_ext.analysis.evaluated import read_model
    from lm_eval_ext.runs.catalogue import read_catalogue

    return diagnosed(read_model(Path(run), read_catalogue()))


def build_site(results: Sequence[str | Path], out: str | Path, *, site: str | Path | None = None) -> Path:
    """Build the static leaderboard site for some results; returns the path of its first page.

    Args:
        results: output folders of lm-eval, or folders of published runs.
        out: folder for the site; a folder that contains something else is not overwritten.
        site: another `site.yaml`.

    Raises:
        ArgumentError: a library from the extra `leaderboard` is missing.
        ResultsError: a file is invalid; the message names file and field.

    >>> import tempfile
    >>> from lm_eval_ext.paths import LEADERBOARD
    >>> build_site([LEADERBOARD / "results"], tempfile.mkdtemp()).name
    'index.html'
    """
    _check_libraries()
    from lm_eval_ext.analysis.board import Board
    from lm_eval_ext.runs.load import load as load_sources
    from lm_eval_ext.runs.study_file import read_studies
    from lm_eval_ext.runs.verification import graded_by_another_version
    from lm_eval_ext.site.build import build as write_site

    catalogue = _catalogue(site)
    sources = load_sources([Path(path) for path in results], catalogue)
    for source in sources:
        for finding in graded_by_another_version(source, published_before=True):
            logger.warning("%s: %s", finding.path, finding.text)
    studies = read_studies(Path(path) for path in results)
    return write_site(sources, Path(out), Board([source.run for source in sources], catalogue), studies)


def _catalogue(site: str | Path | None) -> Catalogue:
    from lm_eval_ext.runs.catalogue import read_catalogue

    return read_catalogue(Path(site)) if site else read_catalogue()


def _check_libraries() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("jinja2", "vl_convert") if find_spec(name) is None]
    if missing:
        raise ArgumentError(f"leaderboard build needs {', '.join(missing)}: pip install 'lm-eval-tts[leaderboard]'")
