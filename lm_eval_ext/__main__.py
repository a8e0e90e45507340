"""`python -m lm_eval_ext run ...`: `lm_eval run ...` with our models and tasks, also where `.pth` files aren't read."""

from lm_eval_ext import _autoload

if __name__ == "__main__":
    _autoload.activate()  # type: ignore[no-untyped-call]  # it has no types, which would cost time at every start
    from lm_eval_ext.harness.plugin import main

    main()
