"""`lm-eval-tts export --push` against a stand-in for the Hub's API, in a process that knows no other Hub."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from lm_eval_ext.pruning.recipe import Recipe, write_recipe
from tests.commands import COMMAND, run

TOKEN = "hf_stand_in_token"


class Hub(ThreadingHTTPServer):
    """Keeps repositories in memory: their files, and whether they are private.

    Source: huggingface_hub's own requests, and https://huggingface.co/docs/hub/api and Git LFS's batch API.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.private: dict[str, bool] = {}
        self.files: dict[str, bytes] = {}
        self.large: dict[str, bytes] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.answer({"error": "not found"}, 404)

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self.body()
        self.answer({})

    def do_POST(self) -> None:
        if "/lfs/" not in self.path and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.body()
            self.answer({"error": "Invalid credentials in Authorization header"}, 401)
            return
        body = self.body()
        if self.path == "/api/repos/create":
            given = json.loads(body)
            name = "/".join(filter(None, (given.get("organization"), given["name"])))
            self.server.private[name] = bool(given.get("private")) or given.get("visibility") == "private"
            self.answer({"url": f"{self.server.url}/{name}", "name": name})
        elif self.path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            kinds = [{"path": one["path"], "uploadMode": mode(one["path"]), "shouldIgnore": False} for one in files]
            self.answer({"files": kinds})
        elif self.path.endswith("/info/lfs/objects/batch"):
            wanted = json.loads(body)["objects"]
            upload = [
                {**one, "actions": {"upload": {"href": f"{self.server.url}/large/{one['oid']}"}}} for one in wanted
            ]
            self.answer({"transfer": "basic", "objects": upload}, kind="application/vnd.git-lfs+json")
        elif "/commit/" in self.path:
            self.commit(body)
            self.answer({"commitUrl": f"{self.server.url}/org/small/commit/abc", "commitOid": "abc", "success": True})
        else:
            self.answer({"error": "not found"}, 404)

    def commit(self, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.server.files[value["path"]] = self.server.large[value["oid"]]
                assert hashlib.sha256(self.server.files[value["path"]]).hexdigest() == value["oid"]

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def answer(self, content: dict[str, Any], status: int = 200, kind: str = "application/json") -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def mode(path: str) -> str:
    return "lfs" if path.endswith(".safetensors") else "regular"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def pushed(hub: Hub, recipe: Path, out: Path, token: str, *words: str) -> Any:
    return run(
        COMMAND, "export", recipe, out, "--push", "org/small", *words, HF_ENDPOINT=hub.url, HF_TOKEN=token,
        HF_HUB_DISABLE_XET="1", HF_HUB_OFFLINE="0",
    )  # fmt: skip


def test_a_checkpoint_is_pushed_with_its_card(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    write_recipe(
        Recipe(base=str(tiny_model), drop=(2,), drop_mlp=(4,), method="by hand", source="test"), tmp_path / "r.yaml"
    )
    done = pushed(hub, tmp_path / "r.yaml", tmp_path / "out", TOKEN, "--private")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("/commit/abc") and hub.private == {"org/small": True}
    here = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {name: data for name, data in hub.files.items() if name != ".gitattributes"} == here
    for name, data in hub.files.items():
        (tmp_path / "again").mkdir(exist_ok=True)
        (tmp_path / "again" / name).write_bytes(data)
    assert AutoConfig.from_pretrained(tmp_path / "again").num_hidden_layers == 5
    card = hub.files["README.md"].decode()
    assert "without layers 2 and the feed-forward networks of layers 4" in card and "vllm serve PATH" in card
    assert "AutoModelForCausalLM.from_pretrained" in card and "nothing of their size is saved" in card


@pytest.mark.long
def test_a_hub_that_refuses_is_one_line_and_the_checkpoint_stays(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    write_recipe(Recipe(base=str(tiny_model), drop=(2,), method="by hand", source="test"), tmp_path / "r.yaml")
    done = pushed(hub, tmp_path / "r.yaml", tmp_path / "out", "hf_wrong")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and last.startswith("lm-eval-tts: --push org/small: ") and "hf_wrong" not in last
    assert "Traceback" not in done.stderr and (tmp_path / "out" / "model.safetensors").exists()
