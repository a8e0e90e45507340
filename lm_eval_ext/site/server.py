"""Local preview of the site, rebuilt when its sources change."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from lm_eval_ext.errors import TTSError
from lm_eval_ext.paths import LEADERBOARD

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
