"""`leaderboard serve`, from the command line."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from urllib.request import urlopen

from benchmarks.lm_eval_output import scores, write_output
from tests.commands import COMMAND


def test_pages_are_served_and_built_again(tmp_path: Path) -> None:
    write_output(tmp_path / "out" / "a", {"tts_aime24_b512": scores(0.6, 9, 3)})
    command: list[str | Path] = [COMMAND, "leaderboard", "serve", "out", "-o", "site", "--port", "0"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            address = next(
                found[0] for line in server.stdout if (found := re.search(r"http://127\.0\.0\.1:\d+/", line))
            )
            first = urlopen(address, timeout=30).read().decode()
            assert "Model-8B" in first and "/reload.js" in first and "shortgpt" not in first
            write_output(tmp_path / "out" / "b", {"tts_aime24_b512": scores(0.3, 9, 3)}, dropped=[5])
            assert urlopen(f"{address}reload.js", timeout=60).read() == b"location.reload();"
            assert "shortgpt" in urlopen(f"{address}index.html", timeout=30).read().decode()
            assert urlopen(f"{address}assets/site.css", timeout=30).status == 200
        finally:
            server.terminate()
