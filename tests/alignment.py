"""Operations of torch on the same numbers at other places in memory.

``python tests/alignment.py`` prints, as JSON, MKL's mode and how far each operation's results
lie apart, relative to the largest entry; 0 where all are bit-equal.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from grokscope.processor import mkl_mode

LINE = 64  # bytes, at which torch's own allocations begin
STACK = 9
DTYPES = (torch.float32, torch.float64)
SHAPES = ((7, 12), (33, 65), (31, 31), (113, 128), (6, 1000))
linalg = torch.linalg

PRODUCTS: dict[str, Callable[[Tensor], Tensor]] = {
    "rows @ rows.T": lambda a: a @ a.T,
    "rows.T @ rows": lambda a: a.T @ a,
    "matrix @ vector": lambda a: a @ a[0],
    "vector @ matrix": lambda a: a[:, 0] @ a,
    "linear": lambda a: functional.linear(a, a, a[:, 0]),
    "dot": lambda a: torch.dot(a.flatten(), a.flatten()),
    "einsum": lambda a: torch.einsum("ij,kj->ik", a, a),
    "norm": lambda a: a.norm(),
    "sum": lambda a: a.sum(),
    "log_softmax": lambda a: a.log_softmax(1),
    "tanh": torch.tanh,
    "attention": lambda a: functional.scaled_dot_product_attention(a[None], a[None], a[None]),
}
OF_STACKS: dict[str, Callable[[Tensor], Tensor]] = {
    "eigvalsh": lambda a: linalg.eigvalsh(a @ a.mT),
    "eigh": lambda a: linalg.eigh(a @ a.mT).eigenvectors,
    "svdvals": linalg.svdvals,
    "qr": lambda a: linalg.qr(a).Q,
    "solve": lambda a: linalg.solve(a, a.mT.contiguous()),
    "cholesky": lambda a: linalg.cholesky(a @ a.mT + torch.eye(len(a[0]), dtype=a.dtype)),
    "bmm": lambda a: torch.bmm(a, a),
    "bmm, transposed": lambda a: torch.bmm(a, a.mT),
}


def at(offset: int, values: Tensor) -> Tensor:
    """A copy that begins ``offset`` bytes after a multiple of ``LINE``."""
    raw = torch.empty(values.nbytes + 2 * LINE, dtype=torch.uint8)
    start = -raw.data_ptr() % LINE + offset
    copy = raw[start : start + values.nbytes].view(values.dtype).view(values.shape)
    return copy.copy_(values)


def everywhere(values: Tensor) -> Iterator[Tensor]:
    """Copies at every place of a line."""
    return (at(offset, values) for offset in range(0, LINE, values.element_size()))


def numbers(*shape: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def apart(results: list[Tensor]) -> float:
    """0 if all are bit-equal, else the largest difference over the largest entry."""
    first = results[0].double()
    return float(max((r.double() - first).abs().max() for r in results) / first.abs().max())


def differences() -> dict[str, float]:
    """How far the results of each operation lie apart."""
    found = {}
    for dtype in DTYPES:
        for shape in SHAPES:
            values = numbers(*shape, dtype=dtype)
            for name, product in PRODUCTS.items():
                found[f"{name} {shape} {dtype}"] = apart([product(a) for a in everywhere(values)])
        for n in (3, 7, 31, 48, 113):
            stack = numbers(n, n, dtype=dtype).expand(STACK, n, n).contiguous()
            for name, operation in OF_STACKS.items():
                found[f"{name} {n} {dtype}"] = apart(list(operation(stack)))
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps({"mode": mkl_mode(), "apart": differences()}))
