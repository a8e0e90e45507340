"""llama.cpp's server from the package `xllamacpp`, on a GGUF file.

python -m tests.llamacpp MODEL.gguf PORT
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

SLOTS, CONTEXT = 4, 1024  # and the tokens of each


def write_float32(source: Path, target: Path) -> Path:
    """Write the weights of a GGUF file without quantization."""
    import numpy as np
    from gguf import GGUFReader, GGUFValueType, GGUFWriter
    from gguf.quants import dequantize

    reader = GGUFReader(source)
    writer = GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name not in ("general.architecture", "general.file_type"):
            kind = field.types[0]
            writer.add_key_value(
                field.name, field.contents(), kind, field.types[-1] if kind == GGUFValueType.ARRAY else None
            )
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.asarray(dequantize(tensor.data, tensor.tensor_type), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


def main() -> None:
    import xllamacpp

    options = xllamacpp.CommonParams()
    options.model.path = sys.argv[1]
    options.port, options.n_parallel, options.n_ctx = int(sys.argv[2]), SLOTS, SLOTS * CONTEXT
    options.cpuparams.n_threads = options.cpuparams_batch.n_threads = 1  # waiting threads are slow on a busy machine
    options.cache_type_k = options.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    options.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(options)
    print(server.listening_address, flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # a test run that was killed leaves nothing behind
        time.sleep(1)


if __name__ == "__main__":
    main()
