"""Per-sample gradients of any net as layer factors, from one forward and one backward pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from math import prod
from operator import itemgetter

import torch
from torch import Tensor, nn

from grokscope.gradients.combine import combined, compact
from grokscope.gradients.factors import Factors
from grokscope.gradients.forms import Form, Rows
from grokscope.gradients.mixing import close, mixer
from grokscope.gradients.network import Inputs, Loss, Network, Samples, renormalises, samples_of
from grokscope.gradients.per_sample import gradients, per_sample_gradients
from grokscope.gradients.sites import in_other_order
from grokscope.gradients.trace import ShapeLog, Shapes, Tracer, Use, sample_dims
from grokscope.validation import require_int

CHECKED, ALONE = 24, 3


def capture(
    net: nn.Module,
    loss: Loss,
    inputs: Inputs,
    targets: Tensor,
    *,
    max_bytes: int = 2**31,
    mode: str = "eval",
) -> Factors:
    r"""The matrix A (n, m) of per-sample gradients :math:`\nabla_\theta \ell_i`, in factor form.

    Every use of a trainable parameter is noted during a forward pass, whatever module makes
    it: a linear map of any number of positions (as ``nn.Linear``, ``einsum``, ``@``, a
    convolution or attention), a table of tokens, a sum or product entry by entry (biases,
    positions, gains of normalisations). Its gradient is then a sum of outer products of what
    went in and the gradient of what came out, and A is never written out. Uses of one parameter
    are added before anything is multiplied. Parameters used in any other way have their own
    per-sample gradients written out, theirs alone.

    What is found is verified: its sum over all samples with random weights must be the gradient
    of that weighted loss (Freivalds' check), or the parameter's gradients are written out.

    Args:
        net: Any module that treats samples separately; weights, ``.grad``, modes, buffers and
            random state are as before afterwards.
        loss: (outputs, targets) -> (n,), one value a sample.
        inputs: (n, ...), or a tuple of such, one for each argument of ``net``.
        targets: (n, ...).
        max_bytes: Memory for activations and factors. Factors that don't fit are computed
            again whenever they are needed.
        mode: ``eval``, ``train`` (dropout on) or ``as_is``. Where outputs are random, mixing of
            samples is not noticed.

    Raises:
        ValueError: If a module mixes samples (named), ``loss`` has another shape, or an
            argument is out of range.

    Source:
        Goodfellow 2015, arXiv:1510.01799 (linear layers); Novak et al. 2022, arXiv:2206.08720
        (structured derivatives).

    Example:
        >>> net = nn.Linear(3, 1)
        >>> squares = lambda outputs, targets: (outputs - targets).square().mean(1)
        >>> capture(net, squares, torch.ones(5, 3), torch.zeros(5, 1)).gram().shape
        torch.Size([5, 5])
    """
    samples = samples_of(inputs, targets)

    def values(outputs: object, targets: Tensor | None) -> Tensor:
        assert targets is not None
        return _column(loss(outputs, targets), outputs)

    return Factors(Captured(Network(net, values, mode), samples, max_bytes))


def _column(losses: object, outputs: object) -> Tensor:
    """(n,) losses as (n, 1) values."""
    n = len(outputs) if isinstance(outputs, Tensor) else None
    if not isinstance(losses, Tensor) or losses.dim() != 1 or n not in (None, len(losses)):
        found = f"shape {tuple(losses.shape)}" if isinstance(losses, Tensor) else repr(losses)
        raise ValueError(f"loss must return one value a sample, shape (n,), got {found}.")
    return losses[:, None]


class Captured:
    """Makes the factors of some samples at a time.

    Args:
        network: The net, and the h values of a sample that are differentiated.
        samples: All samples.
        max_bytes: As in :func:`capture`.

    Attributes:
        join: Makes the forms of a parameter for each of the h values into one.
        rows_a_sample: Rows of A that a sample has after that.
        unstructured: Numbers of the parameters whose gradients are written out.
    """

    def __init__(self, network: Network, samples: Samples, max_bytes: int) -> None:
        self.max_bytes = require_int("max_bytes", max_bytes)
        self.network, self.samples = network, samples
        self.join: Callable[[list[Form]], Form] = itemgetter(0)
        self.rows_a_sample = 1
        self.unstructured: set[int] = set()
        self._minor: set[int] = set()
        self._copy = self._random = False
        shapes = [self._shapes(n) for n in (2, 3)]
        self._dims = sample_dims(*shapes)
        sizes = [sum(prod(shape) for call in log for shape in call) for log in shapes]
        self._numbers_a_sample = max(sizes[1] - sizes[0], 1)
        self._versions = self._version()
        self._refuse_mixing()
        self.forms(slice(0, 1))  # finds most of what has to be written out

    def __len__(self) -> int:
        return len(self.samples)

    @cached_property
    def slices(self) -> list[slice]:
        """The samples of each pass, so that activations take half of the memory."""
        written_out = sum(self.network.parameters[i].numel() for i in self.unstructured)
        numbers = self._numbers_a_sample + 2 * written_out * len(self.heads)
        item = self.network.parameters[0].element_size()
        step = max(1, self.max_bytes // 2 // (item * numbers))
        return [slice(k, min(k + step, len(self))) for k in range(0, len(self), step)]

    def forms(self, rows: slice) -> list[Form | None]:
        """For each parameter the gradients of some samples; None where there is none at all.

        Raises:
            RuntimeError: If weights or samples have changed since the first call.
        """
        if self._version() != self._versions:
            raise RuntimeError(
                "net or inputs changed after capture: its factors did not fit in "
                "max_bytes and would have to be computed again."
            )
        with self.network.evaluated():
            heads = zip(*self._forms(self.samples.take(rows), rows.start), strict=True)
            return [self._joined(forms) for forms in heads]

    def _joined(self, forms: Sequence[Form | None]) -> Form | None:
        found = [form for form in forms if form is not None]
        return compact(self.join(found)) if found else None

    def _forms(self, samples: Samples, seed: int) -> list[list[Form | None]]:
        """For each head, for each parameter."""
        if self._random:  # other numbers for each chunk, the same whenever it is made again
            torch.manual_seed(torch.initial_seed() + 1 + seed)
        tracer = Tracer(self.network.parameters, self._dims, len(samples), self._copy)
        with tracer:
            outputs = self.network.module(*samples.inputs)
        values = self.network.values(outputs, samples.targets)
        self.unstructured |= tracer.unstructured()
        finite = torch.isfinite(values).all(1)
        if finite.any() and not finite.all():  # others can't be verified
            self._forms(samples.take(finite.nonzero()[:, 0].tolist()), seed)
        found = []
        for head in self.heads:
            forms, wrong = self._verified(tracer.uses, values @ head)
            if wrong and not self._copy:
                self._copy = True
                return self._forms(samples, seed)
            self.unstructured |= wrong
            self._write_out(forms, samples, head)
            found.append(forms)
        return found

    def _verified(self, uses: Sequence[Use], values: Tensor) -> tuple[list[Form | None], set[int]]:
        """The forms of all parameters, and the numbers of those that are not right.

        With random weights of the samples, they must add up to the gradient of the weighted sum
        of the values: a gradient in the row of another sample does not pass.
        """
        generator = torch.Generator().manual_seed(0)
        weights = torch.rand(len(values), generator=generator, dtype=torch.float64) + 0.5
        weights = weights.to(values)
        known = [use for use in uses if use.parameter not in self.unstructured]
        deltas = pulled_back(known, values.sum())
        truth = gradients((values * weights).sum(), self.network.parameters)
        forms = self._assembled(known, deltas)
        wrong = self._wrong(forms, truth, weights)
        if wrong:
            self._minor |= wrong
            forms = self._assembled(known, deltas)
            wrong = self._wrong(forms, truth, weights)
            self._minor -= wrong
        return forms, wrong

    def _assembled(self, uses: Sequence[Use], deltas: Sequence[Tensor]) -> list[Form | None]:
        """For each parameter the form of all its uses."""
        forms: list[list[Form]] = [[] for _ in self.network.parameters]
        for use, delta in zip(uses, deltas, strict=True):
            site = in_other_order(use.site) if use.parameter in self._minor else use.site
            forms[use.parameter].append(site.form(delta))
        return [combined(several).live() if several else None for several in forms]

    def _wrong(
        self, forms: Sequence[Form | None], truth: Sequence[Tensor], weights: Tensor
    ) -> set[int]:
        """Parameters whose forms, weighted, do not add up to their gradient."""
        scale = torch.stack([torch.linalg.vector_norm(g) for g in truth]).norm()
        wrong = set()
        for p in set(range(len(truth))) - self.unstructured:
            form, true = forms[p], truth[p].flatten()
            found = torch.zeros_like(true) if form is None else form.weighted_sum(weights)
            if not close(found, true, scale, self.network.eps):
                wrong.add(p)
        return wrong

    def _write_out(self, forms: list[Form | None], samples: Samples, head: Tensor) -> None:
        """Put the gradients of the unstructured parameters into their places.

        Raises:
            ValueError: Where outputs are random: they would be those of other random numbers.
        """
        if wanted := sorted(self.unstructured):
            if self._random:
                name = self.network.layout.slots[wanted[0]].name
                raise ValueError(
                    f"mode must be 'eval' for a net with dropout whose parameter '{name}' is used "
                    f"in a way without a known form, got {self.network.mode!r}."
                )
            budget = self.max_bytes // 4
            rows = per_sample_gradients(self.network, samples, head, wanted, budget)
            for i, values in zip(wanted, rows, strict=True):
                forms[i] = Rows(values, None, values.shape[1])

    def _shapes(self, count: int) -> Shapes:
        """Shapes in every call of a pass over one sample, ``count`` times."""
        log = ShapeLog()
        with self.network.evaluated(), torch.no_grad():
            samples = self.samples.take([0] * count)
            with log:
                outputs = self.network.module(*samples.inputs)
            values = self.network.values(outputs, samples.targets)
            self.heads = torch.eye(values.shape[1], dtype=values.dtype, device=values.device)
        if len(values) != count:
            raise ValueError(
                f"loss must return one value a sample, got {len(values)} values for {count}."
            )
        return log.shapes

    def _version(self) -> list[int]:
        """Counters that every change of a weight or a sample in place raises."""
        parts = self.network.module.modules()
        own = {id(part.weight) for part in parts if renormalises(part)}
        parameters = (p for p in self.network.parameters if id(p) not in own)
        watched = (*parameters, *self.samples.inputs)
        return [-1 if t.is_inference() else t._version for t in watched]

    def _refuse_mixing(self) -> None:
        """Compare the values of some samples with those that they have alone.

        Raises:
            ValueError: If they differ, or no value depends on a parameter.
        """
        network = self.network
        chosen = torch.linspace(0, len(self) - 1, CHECKED).long().unique().tolist()
        with network.evaluated():
            few = self.samples.take(chosen)
            values, again = network(few), network(few)
            if not (values.requires_grad and values.is_floating_point()):
                raise ValueError("loss must depend on the net's trainable parameters.")
            self._random = not torch.equal(values.nan_to_num(), again.nan_to_num())  # dropout
            if self._random:
                return
            alone = [few.take(slice(k, k + 1)) for k in range(min(ALONE, len(few)))]
            single = torch.cat([network(sample) for sample in alone])
            if not close(single, values[: len(single)], values, network.eps):
                culprit = mixer(network, few, alone)
                raise ValueError(f"net must treat samples separately, but {culprit}.")


def pulled_back(uses: Sequence[Use], total: Tensor) -> list[Tensor]:
    """Gradients of one number at the results of all uses; zeros where it does not depend."""
    edges = list(dict.fromkeys(use.edge for use in uses))
    if not edges or not total.requires_grad:
        return [total.new_zeros(use.shape) for use in uses]
    found = torch.autograd.grad(total, edges, retain_graph=True, allow_unused=True)
    at = dict(zip(edges, found, strict=True))
    deltas = [(use, at[use.edge]) for use in uses]
    return [total.new_zeros(use.shape) if delta is None else delta for use, delta in deltas]
