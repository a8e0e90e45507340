"""`python -m tests.warm`: runs `lm_eval` and `lm-eval-tts` in forks of a process that has imported everything already.

The imports take eight seconds, a small evaluation one. Reads a JSON object a line: arguments, folder, environment, and
the files for what is written, and answers with the process id; or such an id, and answers with the exit code, or null
while it runs.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Answer until the input ends."""
    import torch.utils.collect_env
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401

    import lm_eval_ext.gating.worker
    import lm_eval_ext.harness.models.pruned_hf
    import lm_eval_ext.sweep.one  # noqa: F401

    # What pip has installed, which takes a second after each run, is the same after all of them.
    described = functools.cache(torch.utils.collect_env.get_pretty_env_info)
    described()
    torch.utils.collect_env.get_pretty_env_info = described
    gc.freeze()  # else each fork walks through all that was imported, several times
    for line in sys.stdin:
        asked = json.loads(line)
        if isinstance(asked, int):
            ended, status = os.waitpid(asked, os.WNOHANG)
            print(os.waitstatus_to_exitcode(status) if ended else "null", flush=True)
            continue
        child = os.fork()
        if not child:
            _run(asked)
        print(child, flush=True)


def _run(asked: dict[str, Any]) -> None:
    from lm_eval.__main__ import cli_evaluate

    from lm_eval_ext.cli import app

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT), number)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv[:] = asked["command"]
    code: Any = 0
    try:
        (cli_evaluate if Path(sys.argv[0]).name == "lm_eval" else app)()
    except SystemExit as error:
        code = error.code
    except BaseException as error:
        sys.excepthook(*sys.exc_info())
        code = -signal.SIGINT if isinstance(error, KeyboardInterrupt) else 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    if code == -signal.SIGINT:  # as Python ends
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
