"""The beginning of a leaderboard repository of one's own: `leaderboard/skeleton/` with a title, and a `site.yaml`."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from string import Template

import yaml

from lm_eval_ext.errors import ArgumentError, TTSError
from lm_eval_ext.paths import LEADERBOARD

SKELETON = LEADERBOARD / "skeleton"
_HIDDEN = {"github": ".github", "gitignore": ".gitignore", "gitkeep": ".gitkeep"}  # packages leave hidden files out
_WORKFLOWS = "github"  # their `$` is not ours


def write_skeleton(folder: Path, title: str) -> list[Path]:
    """Write the files of a new leaderboard repository; returns their paths.

    Args:
        folder: new or empty.
        title: of the leaderboard, on one line.

    Raises:
        ArgumentError: the folder is not empty, or the title is not one line of text.
    """
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ArgumentError(f"{folder}: is not empty; give a new folder")
    if not title.strip() or not title.isprintable():
        raise ArgumentError(f"title={title!r}; expected one line of text")
    written = []
    for name, text in _files(title):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written


def _files(title: str) -> Iterator[tuple[Path, str]]:
    for source in sorted(path for path in SKELETON.rglob("*") if path.is_file()):
        parts = source.relative_to(SKELETON).parts
        text = source.read_text("utf-8")
        name = Path(*(_HIDDEN.get(part, part) for part in parts))
        yield (
            name,
            text
            if parts[0] == _WORKFLOWS
            else Template(text).substitute(title=title, quoted=json.dumps(title, ensure_ascii=False)),
        )
    settings = (LEADERBOARD / "site.yaml").read_text("utf-8")
    line = yaml.safe_dump({"title": title}, allow_unicode=True, width=1000)
    yield Path("site.yaml"), re.sub(r"^title: .*\n", lambda _: line, settings, flags=re.MULTILINE)


_LOOK_EVERY = 1.0  # seconds


class _Pages(SimpleHTTPRequestHandler):
    """Serves pages that reload themselves when the site has been rebuilt."""

    built: float = 0.0

    def do_GET(self) -> None:
        """Serve a file; `/reload.js` responds when the site changes."""
        if self.path.startswith("/reload.js"):
            self._answer(self._wait_for_change(), "text/javascript")
        elif (page := self._page()) is not None:
            self._answer(page.read_bytes() + b'<script src="/reload.js" async></script>', "text/html; charset=utf-8")
        else:
            super().do_GET()

    def _page(self) -> Path | None:
        path = Path(self.translate_path(self.path))
        path = path / "index.html" if path.is_dir() and self.path.split("#")[0].endswith("/") else path
        return path if path.suffix == ".html" and path.is_file() else None

    def _wait_for_change(self) -> bytes:
        known = _Pages.built
        for _ in range(25):
            if _Pages.built != known:
                return b"location.reload();"
            time.sleep(_LOOK_EVERY)
        return (
            b"document.head.append(Object.assign(document.createElement('script'), {src: '/reload.js?' + Date.now()}));"
        )

    def _answer(self, text: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:
        """Don't log single requests."""


def serve(build: Callable[[], Path], results: Sequence[Path], out: Path, port: int) -> None:
    """Build and serve until interrupted."""
    print(build())
    watched = [*results, LEADERBOARD / "templates", LEADERBOARD / "assets", LEADERBOARD / "site.yaml"]
    with ThreadingHTTPServer(("127.0.0.1", port), partial(_Pages, directory=str(out))) as server:
        threading.Thread(target=_rebuild, args=(build, watched), daemon=True).start()
        print(f"http://127.0.0.1:{server.server_address[1]}/ (stop with Ctrl-C)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


def _rebuild(build: Callable[[], Path], watched: Sequence[Path]) -> None:
    seen = _state(watched)
    while True:
        time.sleep(_LOOK_EVERY)
        if (now := _state(watched)) != seen:
            seen = now
            try:
                print(build(), flush=True)
            except (TTSError, OSError) as error:  # perhaps a half-written file; the next check reads it again
                print(f"lm-eval-tts: {error}", flush=True)
            _Pages.built = time.time()


def _state(watched: Sequence[Path]) -> dict[Path, int]:
    files = [file for path in watched for file in ([path] if path.is_file() else path.rglob("*"))]
    return {file: at for file in files if (at := _changed(file))}


def _changed(file: Path) -> int:
    """Modification time of a file; 0 if it isn't a file, or is gone by now."""
    try:
        return file.stat().st_mtime_ns if file.is_file() else 0
    except OSError:
        return 0
