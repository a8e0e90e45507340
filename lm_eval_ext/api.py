"""Public Python API for models: what `import lm_eval_ext as tts` offers to load, generate, grade and evaluate."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval_ext.errors import ArgumentError, ResultsError

if TYPE_CHECKING:
    from lm_eval_ext.analysis.compare_text import Comparison
    from lm_eval_ext.analysis.diagnosis import Diagnosis
    from lm_eval_ext.gating.gate_report import GateReport
    from lm_eval_ext.grading.grading import Grade
    from lm_eval_ext.harness.models.thinking import ThinkingLM
    from lm_eval_ext.harness.session import GeneratedSamples
    from lm_eval_ext.pruning.recipe import Recipe
    from lm_eval_ext.runs.load import Runs
    from lm_eval_ext.runs.run import Run
    from lm_eval_ext.shrinking.divergence_report import DivergenceReport
    from lm_eval_ext.shrinking.shrink_report import ShrinkReport


logger = logging.getLogger("lm_eval.tts")

DEFAULT_SAMPLING = {"do_sample": True, "temperature": 1.0}


def load(
    pretrained: str | None = None, *, engine: str = "hf", batch_size: int | str = "auto", **arguments: object
) -> ThinkingLM:
    """Load a model, optionally with some layers dropped. Returns the lm-eval `LM` behind `lm_eval --model pruned-hf`.

    Args:
        pretrained: a model's name on the Hub, or a folder; the embedded tiny-chain by default.
        engine: `hf`, `vllm`, or `server` with `base_url=` (and `model=` instead of `pretrained`).
        batch_size: rows decoded at once; `auto` uses as many as fit in memory.
        arguments: `drop_layers`, `recipe`, `prune`, `thinking_format`, ..., and any argument of lm-eval's model class.

    Raises:
        ArgumentError: an engine or argument is unknown, or a value is not allowed.
        TTSError: the recipe or checkpoint cannot be used.

    >>> model = load(drop_layers=[11], journal="off")
    >>> model.recipe.drop
    (11,)
    """
    from lm_eval_ext.harness.session import load_model

    named = {} if pretrained is None else {"pretrained": pretrained}
    model: ThinkingLM = load_model(named | arguments, engine, batch_size)
    return model


def generate(
    model: ThinkingLM,
    prompts: str | Sequence[str],
    *,
    budgets: Sequence[int | None] = (None,),
    samples: int = 1,
    **options: object,
) -> GeneratedSamples:
    """Run a thinking model on prompts under one or more budgets; all budgets of a sample are cuts of the same trace.

    Args:
        model: returned by `load`.
        prompts: one or more; the chat template is applied.
        budgets: limits on thinking tokens; None means no limit.
        samples: number of independent samples for each prompt and budget.
        options: generation arguments, such as `temperature` (1 by default), `answer_token_budget` or `max_gen_toks`.

    Raises:
        ArgumentError: an option is unknown, or a prompt does not fit the model's context.

    >>> asked = "Compute from left to right, modulo 10, and put the result in \\\\boxed{}: 1+2+3"
    >>> found = generate(load(journal="off"), asked, budgets=[8, 64], samples=2)
    >>> len(found), found[0].budget, found[0].text.answer
    (4, 8, '\\\\boxed{6}')
    """
    from lm_eval_ext.harness.session import generated

    if samples < 1:
        raise ArgumentError(f"samples={samples}; allowed: 1 or more")
    asked = [prompts] if isinstance(prompts, str) else list(prompts)
    return generated(model, asked, list(budgets), samples, DEFAULT_SAMPLING | options)


def grade(answers: Sequence[str], golds: str | Sequence[str], kind: str = "math", **options: object) -> list[Grade]:
    """Grade answers: whether each is correct, and if not, why.

    Args:
        answers: final answers, in LaTeX or plain text; an empty string means no answer.
        golds: one gold answer per answer, or a single one for all of them.
        kind: of the answers: `math`, `choice`, `text`, `number`, `json`, `list` or `expression`.
        options: how answers of that kind are compared, as in a task's `metadata.grading`, such as `relative=0.01`.

    Raises:
        ArgumentError: the kind is unknown.
        TaskError: an option is unknown, or has a value that is not allowed.
        ValueError: the numbers of answers and gold answers differ.

    >>> [found.reason for found in grade(["0.5", "1/3"], "1/2")]
    ['correct', 'wrong']
    >>> grade(["about 3.14"], "3.1416", "number", relative=0.001)[0].correct
    True
    """
    from lm_eval_ext.grading.kinds import KINDS

    if kind not in KINDS:
        raise ArgumentError(f"kind={kind!r}; expected one of: {', '.join(KINDS)}")
    rules = KINDS[kind].of(options)
    wanted = [golds] * len(answers) if isinstance(golds, str) else list(golds)
    if len(wanted) != len(answers):
        raise ValueError(f"{len(answers)} answers and {len(wanted)} golds; give one gold per answer, or a single gold")
    return rules.grades(list(zip(wanted, answers, strict=True)))


def evaluate(
    model: object,
    tasks: str | Sequence[str],
    *,
    limit: int | float | None = None,
    output: str | Path | None = None,
    include_path: str | None = None,
    run_untrusted_code: bool = False,
    **options: object,
) -> Run:
    """Evaluate a model on tasks with `lm_eval.simple_evaluate`.

    Args:
        model: returned by `load`, or any other lm-eval `LM`.
        tasks: names of tasks or groups, ours or lm-eval's.
        limit: number (or fraction) of questions to use from each task.
        output: folder for lm-eval's results and samples files; they are not kept by default.
        include_path: a folder with more task YAMLs.
        run_untrusted_code: whether programs that the model writes may run, in a sandbox, as `tts_code` needs it.
        options: further arguments of `simple_evaluate`, such as `gen_kwargs` or `num_fewshot`.

    Returns:
        The run, e.g. `run.tasks["tts_chain_b16"].accuracy`; `run.to_frame()` gives a table.

    Raises:
        TaskError: a task is unknown.

    >>> run = evaluate(load(journal="off"), ["tts_chain_short_b16"], limit=5)
    >>> round(run.tasks["tts_chain_short_b16"].accuracy.value, 2)
    0.93
    """
    from lm_eval_ext.harness.session import evaluated
    from lm_eval_ext.runs.catalogue import read_catalogue
    from lm_eval_ext.runs.load import read_source

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(output or temporary)
        named = [tasks] if isinstance(tasks, str) else list(tasks)
        given = {"limit": limit, "confirm_run_unsafe_code": run_untrusted_code, **options}
        path = evaluated(model, named, folder, include_path, given)
        return read_source(path, read_catalogue()).run


def choose_layers(
    pretrained: str,
    method: str,
    *,
    remove: int | str,
    calibration: str | None = None,
    revision: str | None = None,
    parameters: Mapping[str, object] | None = None,
    **options: Any,
) -> Recipe:
    """Choose which layers or experts to drop from a model, or which weights to set to zero, with a pruning method.

    Args:
        pretrained: the base model's name on the Hub, or its folder.
        method: `shortgpt`, `laco`, `angular`, ...; see `docs/howto/prune.md`.
        remove: how many layers to drop; of experts also a share, such as `25%`; of weights `20%` or `2of4`.
        calibration: source of the calibration texts, such as `embedded` or `task:NAME`; methods of weights need one.
        revision: branch, tag or commit of the base model.
        parameters: parameters of the method.
        options: `samples`, `max_tokens`, `batch_size`, `dtype`, `trust_remote_code`.

    Returns:
        The recipe. Write it with `save`; `load(recipe=PATH)` then loads the pruned model.

    Raises:
        ArgumentError: the method or a parameter is unknown, or that many layers cannot be dropped.

    >>> choose_layers("tiny-chain", "reverse", remove=2).drop
    (10, 11)
    """
    from lm_eval_ext.harness.prune_on_load import choosing
    from lm_eval_ext.pruning.selection import check_amount, choose

    check_amount(method, remove)  # refuses what is unknown before anything is downloaded
    given = parameters or {}
    with choosing(pretrained, revision, method, given, calibration, **options) as context:
        return choose(context, method, [remove], given)[remove]


def read_runs(*folders: str | Path, site: str | Path | None = None) -> Runs:
    """Read all runs in some folders and their subfolders: lm-eval results, published runs, and logs of other tools.

    Args:
        folders: folders that contain `results_*.json`, `run.json` or logs at any depth, or such files.
        site: another `site.yaml`, which defines the accuracy of each benchmark.

    Raises:
        ResultsError: a file is invalid (the message names file and field), or a folder contains no results.

    >>> from lm_eval_ext.paths import LEADERBOARD
    >>> table = read_runs(LEADERBOARD / "results").to_frame()
    >>> round(float(table.query("model == 'dense' and task == 'tts_chain_b128'").accuracy.mean()), 2)
    0.93
    """
    from lm_eval_ext.runs.catalogue import read_catalogue
    from lm_eval_ext.runs.load import Runs
    from lm_eval_ext.runs.load import load as load_sources

    sources = load_sources([Path(folder) for folder in folders], read_catalogue(site), logs=True)
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
    common: bool = False,
    regrade: bool = False,
) -> Comparison:
    """Compare a smaller model with its base: what it keeps, what thinking and voting still gain, and what answers cost.

    Args:
        base, candidate: folder of results of one model, a results file, a published run, or a run that `evaluate`
            returned.
        keep: share of the base's accuracy that must be kept, for a verdict.
        on: benchmarks to compare; all by default.
        all_budgets: whether every budget decides the verdict, and not only the largest.
        allow: what may differ, or not be recorded, such as `("sampling",)`.
        same_prompts: refuse models with different chat templates, tokenizers or thinking formats.
        common: compare the questions that both have, however few, where logs of other tools are paired by texts.
        regrade: also grade the saved answers of both, of mathematics or multiple choice, with our grader; this decides.

    Raises:
        ResultsError: a path holds no results or several models, or the results can't be compared.

    >>> runs = "leaderboard/results/tiny-chain"
    >>> found = compare(f"{runs}/tiny-chain-dense-fc97c339", f"{runs}/tiny-chain-shortgpt-2-555e0f3e", keep=0.9)
    >>> found.verdict
    'lost'
    """
    from lm_eval_ext.analysis.comparison import CompareOptions
    from lm_eval_ext.analysis.comparison import compare as compared
    from lm_eval_ext.analysis.matching import ALLOWED
    from lm_eval_ext.runs.catalogue import read_catalogue
    from lm_eval_ext.runs.run import Run

    if keep is not None and not 0 < keep < 1:
        raise ArgumentError(f"keep={keep}; expected a share between 0 and 1, such as 0.95")
    if unknown := set(allow) - set(ALLOWED):
        raise ArgumentError(f"allow={min(unknown)}; expected: {', '.join(ALLOWED)}")
    options = CompareOptions(keep, tuple(on), all_budgets, tuple(allow), same_prompts, common, regrade)
    models = [given if isinstance(given, Run) else Path(given) for given in (base, candidate)]
    return compared(models[0], models[1], read_catalogue(), options)


def gate(
    file: str | Path, *, run: bool = True, launch: str = "local", jobs: int | None = None, quiet: bool = False
) -> GateReport:
    """Decide which candidates keep enough of their base's accuracy, and stop each as soon as its verdict stands.

    Args:
        file: the `gate.yaml`.
        run: whether to run what is missing; without, the report is of what is there.
        launch: `local`, `slurm` or `ray`.
        jobs: most models at once, on this machine.
        quiet: print nothing about what starts and ends.

    Returns:
        The verdicts: `report.verdicts`, `report.to_frame()`, or printed as text.

    Raises:
        ManifestError: the file is invalid; the message names the field.
        TTSError: the base can't be evaluated, or is far from its published score.

    >>> gate("examples/gate-tiny.yaml", run=False).verdicts["int4"] in ("kept", "undecided")
    True
    """
    from lm_eval_ext.gating.drive import run_gate
    from lm_eval_ext.gating.gate_study import GateStudy
    from lm_eval_ext.gating.verdicts import report
    from lm_eval_ext.sweep.launchers import LaunchKind
    from lm_eval_ext.sweep.preflight import check

    if launch not in list(LaunchKind):
        raise ArgumentError(f"launch={launch!r}; expected one of: {', '.join(LaunchKind)}")
    study = GateStudy(Path(file), keep=run)
    if not run:
        return report(study)
    check(study)
    return run_gate(study, LaunchKind(launch), jobs, lambda line: None if quiet else print(line))


def shrink(
    file: str | Path, *, run: bool = True, launch: str = "local", jobs: int | None = None, quiet: bool = False
) -> ShrinkReport:
    """Find the smallest version of a model that still reasons, and prove it.

    Args:
        file: the `shrink.yaml`.
        run: whether to compute what is missing; without, the report is of what is there.
        launch: `local`, `slurm` or `ray`: where candidates are evaluated.
        jobs: most models at once, on this machine.
        quiet: print nothing about what starts and ends.

    Returns:
        What was found: `report.smallest`, `report.front`, `report.to_frame()`, or printed as text.

    Raises:
        ArgumentError: without `run`, the search isn't finished.
        ManifestError: the file is invalid; the message names the field.
        TTSError: something can't be computed.

    >>> shrink("examples/shrink-tiny.yaml").smallest.what  # doctest: +SKIP
    'layers 7; attention 8+10; mlp 3+4'
    """
    from lm_eval_ext.shrinking.shrink import ShrinkStudy, standing
    from lm_eval_ext.shrinking.shrink import shrink as shrunk
    from lm_eval_ext.sweep.launchers import LaunchKind

    if launch not in list(LaunchKind):
        raise ArgumentError(f"launch={launch!r}; expected one of: {', '.join(LaunchKind)}")
    study = ShrinkStudy(Path(file))
    if not run:
        found = standing(study)
        if found is None:
            raise ArgumentError(f"{file}: the search isn't finished; run it first")
        return found
    study.check()
    return shrunk(study, LaunchKind(launch), jobs, lambda line: None if quiet else print(line))


def diverge(
    base: str | Mapping[str, object],
    candidates: Sequence[str] | Mapping[str, Mapping[str, object]],
    traces: str | Path,
    *,
    samples: int = 64,
    max_tokens: int = 4096,
    seed: int = 0,
    on: Sequence[str] = (),
    localise: bool = False,
    keep: str | Path | None = None,
) -> DivergenceReport:
    """Measure what candidates would write at each step of their base's own correct thinking; nothing is decoded.

    Args:
        base: the base: a name, a folder, or model arguments.
        candidates: recipes, model arguments such as `drop_layers=[3]`, or checkpoints; or model arguments by name.
        traces: folder of results of the base, with samples.
        samples: most traces, one of each question before a second one of any.
        max_tokens: most tokens of a trace, with its prompt.
        seed: of the questions and samples that are drawn.
        on: tasks whose questions are used; all by default.
        localise: also measure what each layer's change explains alone; holds two models in memory.
        keep: folder in which finished models are kept, so that a later call goes on.

    Raises:
        ArgumentError: there are no traces, or a candidate has another tokenizer.
        TTSError: a model cannot be loaded.

    >>> found = diverge("tiny-chain", ["drop_layers=[8]"], "leaderboard/results/tiny-chain/tiny-chain-dense-fc97c339")
    >>> found.candidates[0].divergence.kl.estimate > 0.01
    True
    """
    from lm_eval_ext.shrinking.diverge import ModelSpec, TraceOptions, model_spec, model_specs
    from lm_eval_ext.shrinking.diverge import diverge as diverged

    whole = model_spec(base) if isinstance(base, str) else ModelSpec("base", base)
    if isinstance(candidates, Mapping):
        others = [ModelSpec(name, arguments) for name, arguments in candidates.items()]
    else:
        others = model_specs(candidates, whole.arguments)
    options = TraceOptions(str(traces), samples, max_tokens, seed, tuple(on))
    with tempfile.TemporaryDirectory() as temporary:
        return diverged(whole, others, options, Path(keep or temporary), localise=localise)


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
    if find_spec("vl_convert") is None:
        raise ArgumentError("leaderboard build needs vl_convert: pip install 'lm-eval-tts[leaderboard]'")
    from lm_eval_ext.analysis.board import Board
    from lm_eval_ext.runs.catalogue import read_catalogue
    from lm_eval_ext.runs.load import load as load_sources
    from lm_eval_ext.runs.study_file import read_studies
    from lm_eval_ext.runs.tiers import graded_by_another_version
    from lm_eval_ext.site.build import build as write_site

    catalogue = read_catalogue(site)
    if not results:
        raise ResultsError("no results were given; expected folders of lm-eval's output, or of published runs")
    sources = load_sources([Path(path) for path in results], catalogue, logs=True)
    for source in sources:
        for finding in graded_by_another_version(source, published_before=True):
            logger.warning("%s: %s", finding.path, finding.text)
    studies = read_studies(Path(path) for path in results)
    return write_site(sources, Path(out), Board([source.run for source in sources], catalogue), studies)
