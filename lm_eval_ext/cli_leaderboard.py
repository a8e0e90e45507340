"""`lm-eval-tts leaderboard`: from results to a published run, from published runs to a site."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.errors import ArgumentError
from lm_eval_ext.site.catalogue import read_catalogue
from lm_eval_ext.site.load import Source, load
from lm_eval_ext.site.publish import Finding, findings, publish
from lm_eval_ext.site.run import RUN_FILE, Run, read_run, write_run
from lm_eval_ext.site.submission import submissions

leaderboard = typer.Typer(help="Results as a static site.", no_args_is_help=True)
Results = Annotated[list[Path], typer.Argument(help="Output folders of lm_eval, or folders of published runs.")]
SiteYaml = Annotated[Path | None, typer.Option("--site", help="Another site.yaml.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder of the site.")]
PUBLISHED = Path("leaderboard/results")


@leaderboard.command()
def build(results: Results, out: Out = Path("site"), site: SiteYaml = None) -> None:
    """Write the site that shows some results."""
    print(f"{build_site(results, out, site)}")


def build_site(results: Sequence[Path], out: Path, site: Path | None = None) -> Path:
    """Read results and write the site; returns its first page."""
    _check_libraries()
    from lm_eval_ext.site.pages import Board
    from lm_eval_ext.site.render import build as write_site

    catalogue = read_catalogue(site) if site else read_catalogue()
    sources = load(results, catalogue)
    return write_site(sources, out, Board([source.run for source in sources], catalogue))


def _check_libraries() -> None:
    from importlib.util import find_spec

    missing = [name for name in ("altair", "jinja2", "vl_convert") if find_spec(name) is None]
    if missing:
        raise ArgumentError(f"leaderboard build needs {', '.join(missing)}: pip install lm-eval-tts[leaderboard]")


@leaderboard.command()
def add(
    output: Annotated[Path, typer.Argument(help="Output folder of lm_eval, or one results file.")],
    to: Annotated[Path, typer.Option(help="Folder of published runs.")] = PUBLISHED,
    base: Annotated[str | None, typer.Option(help="Hub name of the base model, where it was a folder.")] = None,
    site: SiteYaml = None,
) -> None:
    """Publish runs: paths, secrets and gated texts are taken out, scores are computed again from the samples."""
    from lm_eval_ext.verification import can_be_verified, disagreements

    catalogue = read_catalogue(site) if site else read_catalogue()
    for submitted in submissions(output, catalogue, base):
        folder = publish(submitted, to)
        source = Source(submitted.run, folder / RUN_FILE, catalogue)
        wrong = list(disagreements(source))
        if can_be_verified(source) and not wrong:
            write_run(submitted.run.model_copy(update={"tier": "verified"}), folder)
        for finding in wrong:
            print(finding)
        print(f"{folder}: {read_run(folder / RUN_FILE).tier}")


@leaderboard.command()
def check(
    results: Annotated[list[Path], typer.Argument(help="Folders of published runs.")],
    against: Annotated[Path | None, typer.Option(help="What was published before; its scores must not change.")] = None,
    regrade: Annotated[bool, typer.Option("--regrade", help="Compute every score again from the samples.")] = False,
    table: Annotated[Path | None, typer.Option(help="Write a Markdown table of the runs to this file.")] = None,
    site: SiteYaml = None,
) -> None:
    """Check published runs: schema, samples, duplicates, dense baselines, changed scores; one line a finding.

    Exits with 1 if there is more than warnings.
    """
    from lm_eval_ext.verification import can_be_verified, disagreements

    catalogue = read_catalogue(site) if site else read_catalogue()
    sources = load(results, catalogue)
    before = load([against], catalogue) if against and any(against.rglob(RUN_FILE)) else []
    found = list(findings(sources, before))
    for source in sources if regrade else ():
        found += disagreements(source)
        if source.run.tier != "reported" and not can_be_verified(source):
            found.append(Finding(source.path, f"tier={source.run.tier}: not every task has samples"))
    for finding in found:
        print(finding)
    if table:
        table.write_text(_markdown([source.run for source in sources], found), encoding="utf-8")
    faults = sum(not finding.warning for finding in found)
    print(f"{len(sources)} runs, {faults} faults, {len(found) - faults} warnings")
    if faults:
        raise typer.Exit(1)


def _markdown(runs: Sequence[Run], found: Sequence[Finding]) -> str:
    lines = ["| base | model | task | accuracy | questions | tier |", "|---|---|---|---|---|---|"]
    for run in runs:
        for name, task in run.tasks.items():
            error = f" ± {100 * task.accuracy.stderr:.1f}" if task.accuracy.stderr else ""
            cells = [
                run.base,
                run.label,
                name,
                f"{100 * task.accuracy.value:.1f}{error}",
                str(task.questions),
                run.tier,
            ]
            lines.append("| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in cells) + " |")
    return "\n".join([*lines, "", *(f"- {str(finding).replace('<', '&lt;')}" for finding in found)]) + "\n"


@leaderboard.command()
def serve(
    results: Results,
    out: Out = Path("site"),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    site: SiteYaml = None,
) -> None:
    """Build the site, show it on this machine, and build it again whenever results or templates change."""
    from lm_eval_ext.site.server import serve as show

    show(lambda: build_site(results, out, site), results, out, port)
