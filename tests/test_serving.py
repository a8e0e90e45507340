"""`lm-eval-tts serve`, and how the client knows what was dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lm_eval_ext.errors import ArgumentError, EngineError
from lm_eval_ext.harness import server_arguments
from lm_eval_ext.harness.arguments import run_name
from lm_eval_ext.harness.models.tts_server import declared_recipe
from lm_eval_ext.harness.server_arguments import ServerArguments
from lm_eval_ext.harness.serving import ServedRecipe, serve_command
from lm_eval_ext.paths import TINY_CHAIN
from lm_eval_ext.pruning.recipe import Recipe
from tests.commands import cli
from tests.fake_server import FakeServer
from tests.shared import case_table
from tests.test_tts_server import SCRIPT, model


def test_the_server_says_what_was_dropped() -> None:
    command = serve_command(f"pretrained={TINY_CHAIN},drop_layers=[3,4]", [])
    server = FakeServer(script=SCRIPT)
    server.name, server.recipe = command[4], command[5].removeprefix("lm-eval-tts:")
    with server:
        for named in ({"model": server.name}, {}):
            pruning = model(server, base=str(TINY_CHAIN), **named).get_model_info()["pruning"]
            assert pruning["dropped_layers"] == [3, 4] and pruning["base"] == str(TINY_CHAIN)
            assert len(pruning["kept_layers"]) == 10
        with pytest.raises(ArgumentError, match="the server says that layers 3-4 are dropped, but 4 are declared"):
            model(server, drop_layers=[4], base=str(TINY_CHAIN))
    server.recipe = '{"base": "tiny-chain", "dorp": [3]}'
    with server, pytest.raises(EngineError, match="dorp"):
        model(server)


def test_the_recipe_that_is_served_is_the_one_that_is_declared(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(f"base: {TINY_CHAIN}\nmethod: x\nsource: x\ndrop: [3]\n")
    said = ServedRecipe.model_validate_json(serve_command(f"recipe={path}", [])[5].removeprefix("lm-eval-tts:"))
    given = {"base_url": "http://a:1", "recipe": str(path)}
    assert declared_recipe(ServerArguments.taken(given), said) is not None
    folder = ServedRecipe(base="my-copy", drop=(3,))
    found = declared_recipe(ServerArguments.taken({"base_url": "http://a:1", "base": "org/m"}), folder)
    assert found is not None and (found.base, found.drop) == ("org/m", (3,))


def test_a_name_alone_says_nothing_of_layers() -> None:
    server = FakeServer(script=SCRIPT)
    server.name = "tiny-chain-drop3"
    with server:
        assert model(server).recipe is None


def test_what_serve_runs() -> None:
    command = serve_command(f"pretrained={TINY_CHAIN},drop_layers=[3]", ["--port", "8000"])
    assert command[1:5] == ["serve", str(TINY_CHAIN), "--served-model-name", "tiny-chain-drop3"]
    assert command[5] == 'lm-eval-tts:{"base":"tiny-chain","drop":[3]}'
    options = dict(zip(command[6:-2:2], command[7:-2:2], strict=True))
    assert options["--load-format"] == "lm-eval-tts" and command[-2:] == ["--port", "8000"]
    assert json.loads(options["--model-loader-extra-config"])["kept_layers"] == [0, 1, 2, *range(4, 12)]
    assert json.loads(options["--hf-overrides"])["num_hidden_layers"] == 11
    assert serve_command("pretrained=tiny-chain,drop_layers=[3]", ["--port", "8000"]) == command
    shown = cli("serve", f"pretrained={TINY_CHAIN}", "--dry-run", "--", "--port", "1")
    assert shown.output.endswith("tiny-chain --port 1\n")


def test_a_served_name_says_how_weights_are_quantized(tmp_path: Path) -> None:
    command = serve_command(f"pretrained={TINY_CHAIN},drop_layers=[3],quantization=fp8", [])
    assert command[4] == "tiny-chain-drop3-fp8"
    for words in (["--quantization=fp8"], ["-q", "fp8"]):
        assert serve_command(f"pretrained={TINY_CHAIN},drop_layers=[3]", words)[4] == "tiny-chain-drop3-fp8"
    (tmp_path / "r.yaml").write_text(f"base: {TINY_CHAIN}\nrevision: abc\nmethod: x\nsource: x\ndrop: [2]\n")
    assert "abc" in serve_command(f"recipe={tmp_path / 'r.yaml'}", [])


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"model": "org/m-drop3", "drop_layers": [3]}, "org/m-drop3"),
        ({"model": "mine", "drop_layers": [3]}, "mine-drop3"),
        ({"tokenizer": "org/m"}, "org/m"),
        ({"model": "mine", "recipe": Recipe(base="org/m", drop=(3,), method="x", source="x")}, "mine-drop3"),
    ],
)
def test_a_run_is_named_after_what_is_served(given: dict[str, object], name: str) -> None:
    assert run_name("made up", {"base_url": "http://a:1", **given}) == name


@pytest.mark.parametrize(("served", "declared", "words"), case_table("wrong_arguments.yaml")["served"])
def test_what_contradicts_the_server_is_one_line(served: dict[str, Any], declared: dict[str, Any], words: str) -> None:
    if "recipe" in declared:
        declared = {"recipe": Recipe(**declared["recipe"])}
    with pytest.raises(ArgumentError, match=words):
        declared_recipe(ServerArguments.taken({"base_url": "http://a:1", **declared}), ServedRecipe(**served))


def test_secrets_of_two_models_are_kept_apart() -> None:
    one: dict[str, object]
    two: dict[str, object]
    one, two = {"auth_token": "sk-one-secret"}, {"auth_token": "sk-two-secret"}
    server_arguments.hide(one)
    server_arguments.hide(two)
    assert "secret" not in f"{one} {two}" and one != two
    assert [server_arguments.shown(given)["auth_token"] for given in (one, two)] == ["sk-one-secret", "sk-two-secret"]


@pytest.mark.parametrize(("model_args", "rest", "words"), case_table("wrong_arguments.yaml")["serve"])
def test_what_cannot_be_served_is_one_line(model_args: str, rest: list[str], words: str) -> None:
    done = cli("serve", model_args.replace("TINY_CHAIN", str(TINY_CHAIN)), "--dry-run", "--", *rest)
    assert done.exit_code == 1 and words in done.stderr and done.stderr.count("\n") == 1
