"""Compares the spconv engine's real kernels, in Triton's interpreter, with native; `test_engines` runs it.

Prints the name of each kind of kernel map that agreed. TRITON_INTERPRET=1 must be set.
"""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

import torch  # noqa: E402
from spconv_triton.pytorch._impl import gemm  # noqa: E402

from core.sparse import native, spconv_engine  # noqa: E402
from tests.test_engines import kernel_maps  # noqa: E402


def main() -> None:
    pretend_to_be_a_gpu()
    for name, kernel_map in kernel_maps().items():
        results = []
        for engine in (native, spconv_engine):
            torch.manual_seed(0)
            feats = torch.randn(kernel_map.num_in, 20, requires_grad=True)
            kernel = torch.randn(len(kernel_map.sizes), 20, 24, requires_grad=True)
            out = engine.convolve(feats, kernel, kernel_map)
            out.backward(torch.randn(out.shape))
            results.append((out.detach(), feats.grad, kernel.grad))
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(theirs, ours, rtol=1e-4, atol=1e-4)
        print(name)


def pretend_to_be_a_gpu() -> None:
    """The interpreter reads tensors of the CPU, but the package refuses them, and nothing can time its kernels."""
    torch.Tensor.is_cuda = True
    native._in_blocks = lambda feats: False
    gemm._multiprocessor_count = lambda device: 16
    for kernel in (gemm._gather_gemm_kernel, gemm._dweight_masked_kernel):
        del kernel.configs[1:]


if __name__ == "__main__":
    main()
