"""The kernels pass Triton's compiler and NVIDIA's assembler, which the interpreter does not call.

No GPU is needed for that, but a process that does not interpret its kernels is.
"""

import os
import subprocess
import sys

import pytest
import torch

HALF = ["value", "logits", "out", "x", "weight", "grad", "grad_value", "grad_logits", "grad_x"]
HALF += ["product", "bias", "query", "key", "grad_query", "grad_key"]
POINTERS = dict.fromkeys(HALF, "*bf16") | {
    "normalizer": "*fp32",
    "partial_weight": "*fp32",
    "documents": "*i64",
    **dict.fromkeys(("seed", "mean"), "*fp32"),
    **dict.fromkeys(("uniform", "temperature", "loss", "grad_loss", "partial_bias"), "*fp32"),
    **dict.fromkeys(("targets", "sampled", "best"), "*i64"),
}


@pytest.mark.parametrize("capability", [80, 90])
def test_kernels_compile_for_gpus(capability):
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, __file__, str(capability)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "span_forward",
        "span_backward",
        "depthwise_forward",
        "depthwise_weight_backward",
        "row_statistics",
        "row_gradients",
        "attention_forward",
        "attention_query_backward",
        "attention_key_backward",
    ]


def compile_kernels(capability: int) -> None:
    """Compile each kernel with documents in bfloat16, printing its name when it is done."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from convbert.models.ops import (
        attention_kernels,
        masked_lm_kernels,
        triton_attention,
        triton_kernels,
        triton_masked_lm,
        triton_ops,
    )

    value, logits, x = (torch.empty(1, 64, 2, n, dtype=torch.bfloat16) for n in (48, 9, 8))
    documents = torch.ones(1, 64, dtype=torch.int64)
    spans = [
        triton_ops._span_constants(value, logits, documents, tile)
        for tile in (triton_ops._SPAN, triton_ops._SPAN_GRADIENT)
    ]
    filtering = triton_ops._depthwise_constants(x, 9, documents, triton_ops._FILTER)
    gradient = triton_ops._depthwise_constants(x, 9, documents, triton_ops._FILTER_GRADIENT)
    gradient |= {"CHUNK": triton_ops._CHUNK}
    query = torch.empty(1, 512, 2, 64, dtype=torch.bfloat16)
    attending = triton_attention.constants(query, documents, 0.1)
    for kernel, constants in (
        (triton_kernels.span_forward, spans[0]),
        (triton_kernels.span_backward, spans[1]),
        (triton_kernels.depthwise_forward, filtering),
        (triton_kernels.depthwise_weight_backward, gradient),
        (masked_lm_kernels.row_statistics, triton_masked_lm.statistics_constants(value, True)),
        (masked_lm_kernels.row_gradients, triton_masked_lm.gradients_constants(value)),
        (attention_kernels.attention_forward, attending),
        (attention_kernels.attention_query_backward, attending),
        (attention_kernels.attention_key_backward, attending),
    ):
        warps = constants["num_warps"]
        constants = {name: constants[name] for name in kernel.arg_names if name in constants}
        signature = {
            name: "constexpr" if name in constants else POINTERS.get(name, "i32")
            for name in kernel.arg_names
        }
        source = ASTSource(kernel, signature, constants)
        binary = triton.compile(source, GPUTarget("cuda", capability, 32), {"num_warps": warps})
        assert binary.asm["cubin"]
        print(kernel.__name__)


if __name__ == "__main__":
    compile_kernels(int(sys.argv[1]))
