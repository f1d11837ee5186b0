"""Compares the Triton kernel that gathers rows with PyTorch's operations, in Triton's interpreter.

Prints the number of cases that agreed. TRITON_INTERPRET=1 must be set.
"""

import torch

from core.sparse.gather import gather_rows
from core.sparse.gather_kernel import launch

agreed = 0
for channels, width in ((4, 8), (20, 24), (81, 88), (24, 20), (8, 8), (163, 168)):
    for dtype in (torch.float32, torch.float16):
        for count in (1, 700):
            rows = torch.randn(50, channels).to(dtype)
            index = torch.randint(51, (count,), dtype=torch.int32)
            assert torch.equal(launch(rows, index, width), gather_rows(rows, index, width)), (channels, width, count)
            agreed += 1
print(agreed)
