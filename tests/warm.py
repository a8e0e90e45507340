"""`python -m tests.warm`: runs the `lm_eval` command in forks of a process that has imported everything already.

The imports take eight seconds, a small evaluation one. Reads a JSON object a line: arguments, folder, environment, and
the files for what is written; answers with the exit code.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
from typing import Any


def main() -> None:
    """Answer until the input ends."""
    import transformers.models.llama.modeling_llama
    import transformers.models.qwen3.modeling_qwen3  # noqa: F401
    from lm_eval.__main__ import cli_evaluate

    import lm_eval_ext.harness.models.pruned_hf  # noqa: F401

    for line in sys.stdin:
        asked = json.loads(line)
        child = os.fork()
        if not child:
            _run(cli_evaluate, asked)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def _run(command: Any, asked: dict[str, Any]) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(asked[name], os.O_WRONLY | os.O_CREAT), number)
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    sys.argv[:] = asked["command"]
    code: Any = 0
    try:
        command()
    except SystemExit as error:
        code = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
