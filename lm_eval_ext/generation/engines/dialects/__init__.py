"""Kinds of inference servers, one module each; a new server is a module and an entry in this table."""

from __future__ import annotations

from lm_eval_ext.generation.engines.dialects.base import Dialect
from lm_eval_ext.generation.engines.dialects.llamacpp import LlamaCppDialect, SingleLlamaCppDialect
from lm_eval_ext.generation.engines.dialects.sglang import SGLangDialect
from lm_eval_ext.generation.engines.dialects.text import TextDialect
from lm_eval_ext.generation.engines.dialects.vllm import VLLMDialect

# In this order, the first one whose facts a server has is used; every server fits `text`.
DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (VLLMDialect(), LlamaCppDialect(), SGLangDialect(), TextDialect())
}

# Used instead if requests are made one at a time, by name.
SINGLE: dict[str, Dialect] = {LlamaCppDialect.name: SingleLlamaCppDialect()}
