"""`lm-eval-tts prune`, `export`, `recover` and `recipes`: choose layers to drop, and build models from recipes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lm_eval_ext.errors import ArgumentError, RecipeError
from lm_eval_ext.paths import PRUNED_MODELS, located
from lm_eval_ext.pruning.recipe import Recipe, chosen_name, format_layers, load_recipe, recipe_files, write_recipe

recipes = typer.Typer(help="Pruning recipes (YAML).", no_args_is_help=True)
RecipeName = Annotated[str, typer.Argument(help="Name of an installed recipe, or path of a recipe YAML.")]
IncludePath = Annotated[
    Path | None,
    typer.Option("--include-path", help="Folder of task YAMLs, for task:NAME.", exists=True, file_okay=False),
]
BasePath = Annotated[str | None, typer.Option("--pretrained", help="A local copy of the recipe's base model.")]


def prune(
    base: Annotated[str, typer.Option(help="Hub name or folder of the model.")],
    method: Annotated[str, typer.Option(help="How layers, experts or weights are chosen: shortgpt, reap, wanda, ...")],
    remove: Annotated[
        str,
        typer.Option(help="Layers, as 1,2,3; experts, also as 25%; weights, as 20% or 2of4. A recipe each."),
    ] = "1",
    calibration: Annotated[
        str | None,
        typer.Option(
            help="Calibration texts: embedded (the default for layers and experts), a corpus, a file, "
            "ORG/NAME:SPLIT:FIELD, task:NAME, run:FOLDER."
        ),
    ] = None,
    include_path: IncludePath = None,
    samples: Annotated[int, typer.Option(help="Number of calibration texts.")] = 16,
    max_tokens: Annotated[int, typer.Option(help="Tokens used per text, at most.", min=2)] = 512,
    batch_size: Annotated[int, typer.Option(min=1)] = 1,
    dtype: Annotated[str, typer.Option(help="Passed to from_pretrained.")] = "auto",
    revision: str = "main",
    trust_remote_code: bool = False,
    set_: Annotated[list[str] | None, typer.Option("--set", help="A parameter of the method, as NAME=VALUE.")] = None,
    out: Annotated[Path, typer.Option(help="Folder for the recipes.")] = Path("pruned_models"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite a recipe that drops other layers.")] = False,
) -> None:
    """Choose layers or experts to drop, or weights to set to zero, and write a recipe for each number or share."""
    from lm_eval_ext.harness.prompts import include
    from lm_eval_ext.harness.prune_on_load import choosing, parse_parameters
    from lm_eval_ext.pruning.selection import check_amount, choose, plot_scores

    for amount in remove.split(","):  # fails on an unknown method, too, before anything is downloaded
        check_amount(method, amount)
    include([include_path] if include_path else [])
    parameters = parse_parameters(set_ or [])
    with choosing(
        base, revision, method, parameters, calibration, samples=samples, max_tokens=max_tokens,
        batch_size=batch_size, dtype=dtype, trust_remote_code=trust_remote_code,
    ) as context:  # fmt: skip
        out.mkdir(parents=True, exist_ok=True)  # fails here, and not after hours of calibration
        chosen = choose(context, method, [amount.strip() for amount in remove.split(",")], parameters)
    refused: ArgumentError | RecipeError | None = None
    for amount, recipe in chosen.items():
        path = out / chosen_name(base, method, (pair.partition("=")[2] for pair in set_ or []), amount)
        try:
            _check_not_another(recipe, path, force)
        except (ArgumentError, RecipeError) as error:  # raised at the end, so that the other recipes are written
            refused = refused or error
            continue
        write_recipe(recipe, path)
        print(f"{path}: {recipe.summary} (the model has {context.depth} layers)")
        if any(score is not None for score in recipe.scores):
            plot_scores(recipe, path.with_suffix(".svg"))
    if refused:
        raise refused


def _check_not_another(recipe: Recipe, path: Path, force: bool) -> None:
    if path.is_file() and not force and load_recipe(str(path)).digest != recipe.digest:
        raise ArgumentError(f"{path}: already exists and is another recipe; use another --out, or --force")


def export(
    recipe: RecipeName,
    folder: Annotated[Path, typer.Argument(help="New folder for the checkpoint.")],
    pretrained: BasePath = None,
    shard_size: Annotated[float, typer.Option(help="Largest file, in GB; also held in memory.", min=0.001)] = 2.0,
    trust_remote_code: bool = False,
    trust_layer_fields: Annotated[
        bool, typer.Option("--trust-layer-fields", help="Skip the check that dropping layers of this model is exact.")
    ] = False,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Results of this model, for the model card and `.eval_results`; can be repeated."),
    ] = None,
    push: Annotated[
        str | None, typer.Option(help="ORG/NAME of a model repository on the Hub to upload it to, with HF_TOKEN.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="With --push: create a private repository.")] = False,
) -> None:
    """Write a pruned model as an ordinary checkpoint that stock transformers and vLLM can load."""
    from lm_eval_ext.exporters.hub import check_repository, check_same_model, write_hub
    from lm_eval_ext.pruning.export import export as write
    from lm_eval_ext.runs.catalogue import read_catalogue
    from lm_eval_ext.runs.load import load

    if push is not None:
        check_repository(push)
    sources = load(results, read_catalogue()) if results else []
    if results:
        check_same_model(load_recipe(recipe), sources)
    path = write(
        load_recipe(recipe), folder, pretrained=pretrained, shard_bytes=int(shard_size * 1e9),
        trust_remote_code=trust_remote_code, trust_layer_fields=trust_layer_fields,
    )  # fmt: skip
    if sources:
        write_hub(sources, path)
    print(f"{path}: {sum(file.stat().st_size for file in path.iterdir()) / 1e6:.1f} MB")
    if push is not None:
        from lm_eval_ext.exporters.hub import push as upload

        published = load_recipe(str(path / "recipe.yaml"))
        print(upload(path, push, f"{published.named}: {published.summary}", private=private))


def recover(
    recipe: RecipeName,
    folder: Annotated[
        Path, typer.Argument(help="New folder for the adapter or checkpoint; that of an interrupted training to go on.")
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Training texts, in the format of `prune --calibration`; `run:FOLDER` for traces."),
    ] = None,
    include_path: IncludePath = None,
    like: Annotated[str | None, typer.Option(help="Settings of a paper, which the other options change: s1.")] = None,
    lora: Annotated[bool, typer.Option("--lora", help="Train an adapter instead of all weights.")] = False,
    pretrained: BasePath = None,
    samples: Annotated[int | None, typer.Option(help="Most texts. Default: 1000.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps. Default: 100.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the texts, in place of steps.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Texts of a step. Default: 8.")] = None,
    micro_batch_size: Annotated[
        int | None, typer.Option(help="Texts in memory at once; gradients are accumulated. Default: 1.")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Default: 2e-4 with --lora, 1e-5 without.")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Default: 0.")] = None,
    warmup: Annotated[float | None, typer.Option(help="Share of the steps with a growing rate. Default: 0.05.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Most tokens of a text. Default: 2048.")] = None,
    rank: Annotated[int | None, typer.Option(help="Rank of the adapter. Default: 16.")] = None,
    alpha: Annotated[int | None, typer.Option(help="Alpha of the adapter. Default: 32.")] = None,
    precision: Annotated[
        str | None, typer.Option(help="float32, or bfloat16 for the computation alone. Default: bfloat16 on a GPU.")
    ] = None,
    seed: int = 0,
    save_steps: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints.")] = 100,
) -> None:
    """Fine-tune a pruned model, as a control: knowledge comes back, long reasoning does not."""
    from lm_eval_ext.harness.prompts import include
    from lm_eval_ext.harness.session import log_to_terminal
    from lm_eval_ext.pruning.finetuning import training
    from lm_eval_ext.pruning.recovery import recover as train

    log_to_terminal()
    include([include_path] if include_path else [])
    settings = training(
        like, data=data, lora=lora, samples=samples, steps=steps, epochs=epochs, batch_size=batch_size,
        micro_batch_size=micro_batch_size, learning_rate=learning_rate, weight_decay=weight_decay, warmup=warmup,
        max_tokens=max_tokens, rank=rank, alpha=alpha, precision=precision, seed=seed,
    )  # fmt: skip
    print(train(load_recipe(recipe), folder, settings, pretrained=pretrained, save_steps=save_steps))


@recipes.command("list")
def list_() -> None:
    """List the installed recipes: ours, and those of other packages."""
    for path in recipe_files():
        recipe = load_recipe(str(path))
        print(f"{path.stem:32}{recipe.base:28}{recipe.method:12}{recipe.summary}")


@recipes.command()
def show(recipe: RecipeName) -> None:
    """Print a recipe and its digest."""
    found = load_recipe(recipe)
    for name, value in found.model_dump(mode="json", exclude_defaults=True).items():
        print(f"{name}: {format_layers(found.drop) if name == 'drop' else value}")
    print(f"digest: {found.digest}")


@recipes.command("recover")
def recover_recipe(
    checkpoint: Annotated[str, typer.Argument(help="Hub name or folder of a pruned checkpoint.")],
    base: Annotated[str, typer.Option(help="Hub name or folder of the model that it was made from.")],
    out: Annotated[Path | None, typer.Option(help="File for the recipe; by default NAME.yaml in this folder.")] = None,
    method: Annotated[str, typer.Option(help="How the layers or experts were chosen, if it is known.")] = "not known",
    revision: Annotated[str, typer.Option(help="Of the checkpoint.")] = "main",
    base_revision: Annotated[str, typer.Option(help="Of the base.")] = "main",
    trust_remote_code: bool = False,
) -> None:
    """Find which layers or experts of its base a published pruned checkpoint kept, and write the recipe."""
    from lm_eval_ext.pruning.reconstruction import reconstructed

    path = out or Path(f"{checkpoint.rstrip('/').split('/')[-1].lower()}.yaml")
    recipe = reconstructed(
        located(checkpoint), located(base), checkpoint_revision=revision, base_revision=base_revision, method=method,
        trust_remote_code=trust_remote_code,
    )  # fmt: skip
    _check_not_another(recipe, path, force=False)
    print(f"{recipe.save(path)}: {recipe.summary}")


@recipes.command()
def check(
    paths: Annotated[list[Path] | None, typer.Argument(help="Recipe YAMLs; by default all in pruned_models/.")] = None,
) -> None:
    """Check recipes for invalid fields, invalid layers and duplicates; exits with 1 if there are errors.

    Reports the first error of each file.
    """
    found: dict[str, Path] = {}
    faults = 0
    for path in paths or sorted(PRUNED_MODELS.glob("*.yaml")):
        try:
            recipe = load_recipe(str(path))
            _check_layers(recipe, path)
            if recipe.digest in found:
                raise RecipeError(f"{path}: the same model as {found[recipe.digest]}")
            found[recipe.digest] = path
        except RecipeError as error:
            print(error)
            faults += 1
    print(f"recipes: {len(found)} valid, {faults} invalid")
    if faults:
        raise typer.Exit(1)


def _check_layers(recipe: Recipe, path: Path) -> None:
    """Check that the layers exist, where the base is a folder or the embedded model."""
    from lm_eval_ext.pruning.architecture import depth
    from lm_eval_ext.pruning.checkpoint import NO_CHANGES, read_config
    from lm_eval_ext.pruning.loading import with_experts
    from lm_eval_ext.pruning.recipe import kept_layers

    if not Path(recipe.pretrained).is_dir():
        return
    try:
        config = read_config(recipe.pretrained, recipe.revision)
        recipe.blocks.within(kept_layers(recipe.drop, depth(config)))
        with_experts(NO_CHANGES, config, recipe.drop_experts)
    except ArgumentError as error:
        raise RecipeError(f"{path}: {error}") from error
