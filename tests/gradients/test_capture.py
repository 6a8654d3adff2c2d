from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from gradients.zoo import (
    CASES,
    Case,
    Net,
    Problem,
    assert_near,
    explicit,
    problem,
    squared,
)
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from grokscope.gradients import Factors, capture
from grokscope.gradients.layout import gradient_layout

Linear, Seq = nn.Linear, nn.Sequential


def assert_explicit(given: Problem, **options: Any) -> None:
    A = explicit(*given)
    assert_near(capture(*given, **options).gram(), A @ A.T)


# ---- how gradients are held: speed must not be lost unnoticed ------------------------------


@pytest.mark.parametrize("case", [pytest.param(case, id=name) for name, case in CASES.items()])
def test_structured_parameters_are_held_by_their_structure(case: Case) -> None:
    given = case.build()
    factors, layout = capture(*given), gradient_layout(given.net.named_parameters())
    assert factors.layout == layout
    assert factors.layers == layout.layers
    assert list(factors.forms) == [slot.name for slot in layout.slots]
    assert set(factors.forms.values()) <= {"outer", "token", "rows", "generic", "none"}
    unstructured = {name for name, form in factors.forms.items() if form == "generic"}
    assert not {name for name in unstructured if not case.may_be_generic(name)}


@pytest.mark.parametrize(
    ("net", "shape", "form"),
    [
        (Linear(30, 20), (30,), "outer"),
        (Linear(30, 20), (4, 30), "outer"),
        (Net(lambda net, x: x @ net.weight, weight=(30, 20)), (4, 30), "outer"),
        (Net(lambda net, x: torch.einsum("npd,hde->nphe", x, net.weight), weight=(2, 30, 20)),
         (4, 30), "outer"),
        (nn.Conv2d(8, 20, 3), (8, 4, 4), "outer"),
        (nn.Embedding(50, 20), (4,), "token"),
        (Net(lambda net, x: net.weight[x], weight=(50, 20)), (4,), "token"),
        (Net(lambda net, x: net.weight[:, x].movedim(0, -1), weight=(20, 50)), (4,), "token"),
        (nn.LayerNorm(30), (4, 30), "rows"),
        (nn.RMSNorm(30), (4, 30), "rows"),
        (Net(lambda net, x: x + net.weight, weight=(4, 30)), (4, 30), "rows"),
    ],
)  # fmt: skip
def test_large_parameters_have_the_form_of_their_kind(net, shape, form) -> None:
    vocabulary = 50 if form == "token" else 0
    factors = capture(*problem(net, (shape,), squared, vocabulary))
    assert factors.forms["weight"] == form


class Largest(TorchDispatchMode):
    """The bytes of the largest tensor that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.n_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, Tensor) and not out.is_meta:
            self.n_bytes = max(self.n_bytes, out.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize(
    ("net", "shape", "limit"),
    [
        (Linear(400, 300), (400,), 2**20),  # A: 23 MB
        (Linear(60, 50), (40, 60), 2**20),  # A: 0.6 MB, all pairs of positions: 29 MB
        (Linear(400, 300), (40, 400), 2**23),  # A: 23 MB, factors: 5 MB
        (nn.Conv2d(8, 64, 3), (8, 7, 7), 2**21),  # A: 0.9 MB
        (Net(lambda net, x: F.softplus(net.W) @ x[..., None], W=(60, 100)), (100,), 2**17),
    ],
    ids=["wide", "positions", "positions, wide", "convolution", "generic"],
)
def test_no_tensor_is_larger_than_the_limit(net: nn.Module, shape, limit: int) -> None:
    given = problem(net, (shape,), squared, n=24)
    with Largest() as largest:
        factors = capture(*given, max_bytes=limit)
        factors.gram()
        factors.gram(centered=True)
        factors.sample_norms()
        factors.mean_gradient()
        factors.vjp(torch.ones(24, dtype=torch.float64))
        factors.jvp(torch.ones(factors.layout.size, dtype=torch.float64))
    assert largest.n_bytes <= limit


@pytest.mark.parametrize("name", ["mlp", "nanoGPT, tied", "transformer of Nanda, last position"])
def test_structured_nets_need_no_more_passes_for_more_samples(name: str) -> None:
    def passes(n: int) -> int:
        given, count = CASES[name].build(n), []
        given.net.register_forward_hook(lambda *_: count.append(1))
        capture(*given).gram()
        return len(count)

    assert passes(64) <= passes(4) <= 12


# ---- the observer does not disturb ---------------------------------------------------------


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.plain = {"calls": 0}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x


def net_with_state() -> nn.Module:
    """Dropout, running statistics, a counter, a table that is renormalised when read."""
    return Net(
        lambda net, x: net.body(net.embed(x).flatten(1)) @ F.softplus(net.W),
        embed=nn.Embedding(6, 4, max_norm=0.1),
        body=Seq(Linear(12, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), Counter(), nn.GRUCell(5, 4)),
        W=(4, 3),
    )


def everything(factors: Factors) -> None:
    factors.gram()
    factors.gram(factors.layers[0], centered=True)
    factors.sample_norms()
    factors.mean_gradient()
    factors.vjp(torch.ones(2, factors.n_samples, dtype=torch.float64))
    factors.jvp(torch.ones(2, factors.layout.size, dtype=torch.float64))
    factors.dense()


def snapshot(net: nn.Module, inputs: Tensor) -> list[Any]:
    hooks = [name for name in vars(nn.Module()) if "hooks" in name]
    return [
        [(name, value.clone()) for name, value in net.state_dict(keep_vars=True).items()],
        [(id(p), p.data_ptr(), p.requires_grad, id(p.grad), p.grad) for p in net.parameters()],
        [(type(m), m.training, sorted(vars(m))) for m in net.modules()],
        [[len(getattr(m, hook)) for hook in hooks] for m in net.modules()],
        [type(m).forward is getattr(m.forward, "__func__", None) for m in net.modules()],
        [torch.get_rng_state(), torch.tensor(np.random.rand()), random.random()],
        [torch.is_grad_enabled(), torch.get_default_dtype(), torch.is_anomaly_enabled()],
        [inputs.clone(), inputs.requires_grad, inputs.grad],
    ]


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    else:
        assert torch.equal(a, b) if isinstance(a, Tensor) else a == b


def seeded() -> None:
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)


@pytest.mark.parametrize("mode", ["eval", "as_is"])
@pytest.mark.parametrize(
    "name", ["net with state", "nanoGPT, tied", "weight norm", "LSTM", "checkpointed block"]
)
def test_the_net_and_all_random_state_are_as_before(name: str, mode: str) -> None:
    if name == "net with state":
        given = problem(net_with_state(), ((3,),), squared, 6)
        given.net.embed.weight.data.mul_(9)
        given.net.body[0].train()
        given.net.body[2].train(mode == "eval")
    else:
        given = CASES[name].build()
    first, *rest = given.net.parameters()
    first.grad = torch.full_like(first, 7.0)
    rest[0].requires_grad_(False)
    seeded()
    before = snapshot(given.net, given.inputs)
    seeded()
    everything(capture(*given, mode=mode))
    assert_same(snapshot(given.net, given.inputs), before)


def test_the_net_is_as_before_when_capture_fails() -> None:
    given = problem(net_with_state(), ((3,),), squared, 6)
    given.net.train()
    given.net.body[1].eval()
    seeded()
    before = snapshot(given.net, given.inputs)
    seeded()
    with pytest.raises(ZeroDivisionError):
        capture(given.net, lambda *_: 1 / 0, given.inputs, given.targets)
    with pytest.raises(ValueError, match="loss"):
        capture(given.net, lambda out, _: out.sum(), given.inputs, given.targets)
    assert_same(snapshot(given.net, given.inputs), before)


def test_gradients_of_the_inputs_are_not_touched() -> None:
    net, loss, inputs, targets = CASES["mlp"].build()
    inputs = inputs.requires_grad_()
    everything(capture(net, loss, inputs, targets))
    assert inputs.grad is None
    assert inputs.requires_grad


def test_a_net_can_be_trained_on_after_a_capture_within_its_step() -> None:
    net, loss, inputs, targets = CASES["nanoGPT"].build()
    value = loss(net(inputs), targets).mean()
    factors = capture(net, loss, inputs, targets)
    value.backward()
    flat = torch.cat([parameter.grad.flatten() for parameter in net.parameters()])
    assert_near(factors.mean_gradient(), flat)


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, nullcontext])
@pytest.mark.parametrize("name", ["mlp", "nanoGPT", "weight norm", "LSTM"])
def test_the_callers_grad_mode_does_not_matter(name: str, around: Callable) -> None:
    given = CASES[name].build()
    A = explicit(*given)
    with around():
        factors = capture(*given)
        everything(factors)
    assert_near(factors.gram(), A @ A.T)


def test_the_users_hooks_still_work() -> None:
    given = CASES["linear over positions"].build()
    seen: list[str] = []

    def doubled(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        seen.append("forward")
        return 2 * output

    given.net[0].register_forward_hook(doubled)
    given.net[2].register_forward_pre_hook(lambda module, args: (args[0].sin(),))
    A = explicit(*given)
    seen.clear()
    factors = capture(*given)
    assert seen
    assert_near(factors.gram(), A @ A.T)


# ---- modes ---------------------------------------------------------------------------------


class Modal(nn.Module):
    """Doubles in training mode."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x if self.training else x


@pytest.mark.parametrize(
    ("mode", "factors"), [("eval", (1, 1)), ("train", (2, 2)), ("as_is", (2, 1)), (None, (1, 1))]
)
def test_the_mode_reaches_every_submodule(mode: str | None, factors: tuple[int, int]) -> None:
    given = problem(Seq(Linear(3, 3), Modal(), Linear(3, 2), Modal()), ((3,),), squared)
    given.net[1].train()
    options = {} if mode is None else {"mode": mode}
    K = capture(*given, **options).gram()
    assert [module.training for module in given.net.modules()] == [False, False, True] + 2 * [
        False
    ]
    given.net[1].train(factors[0] == 2)
    given.net[3].train(factors[1] == 2)
    A = explicit(*given)
    assert_near(K, A @ A.T)


def test_dropout_is_off_unless_asked_for_and_draws_one_mask_a_sample() -> None:
    given = problem(Seq(Linear(3, 50), nn.Dropout(0.5), Linear(50, 2)), ((3,),), squared)
    given.net.train()
    K = capture(*given).gram()
    assert all(module.training for module in given.net.modules())
    given.net.eval()
    A = explicit(*given)
    assert_near(K, A @ A.T)
    given = given.take([0] * 5)
    trained = capture(*given, mode="train").gram()
    assert trained.unique().numel() > 5


@pytest.mark.parametrize(
    "name",
    [
        *("nanoGPT, tied", "positions flattened, sample index fast", "samples sorted by route"),
        *("samples repeated as a whole", "samples repeated each", "a loop over the samples"),
        *("masked weight", "weights made by a layer without samples", "part of a weight"),
    ],
)
def test_training_mode_is_as_exact_where_nothing_is_random(name: str) -> None:
    given = CASES[name].build()
    for module in given.net.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    assert_explicit(given, mode="train")


@pytest.mark.parametrize("mode", ["eval", "as_is"])
def test_batch_norm_in_evaluation_mode_is_welcome(mode: str) -> None:
    assert_explicit(CASES["BatchNorm in evaluation"].build(), mode=mode)


# ---- nets whose calls depend on the data ---------------------------------------------------


def by_length(net: Net, x: Tensor) -> Tensor:
    """Puts the samples in another order within, as packed sequences are."""
    order = x[:, 0].argsort()
    return net.b(net.a(x[order]).tanh())[order.argsort()]


def by_expert(net: Net, x: Tensor) -> Tensor:
    """Experts that nobody asks are not called."""
    out = torch.zeros_like(x)
    for k, expert in enumerate((net.a, net.b)):
        rows = ((x[:, 0] > 0) == bool(k)).nonzero()[:, 0]
        if len(rows):
            out = out.index_put((rows,), expert(x[rows]))
    return out


def by_size(net: Net, x: Tensor) -> Tensor:
    """Another pass for the large ones, when there are such."""
    out, large = net.a(x).tanh(), x[:, :1] > 0
    return net.b(out) * large + out if large.any() else out


ODD_ONES = ([4], [3, 4], [7, 8, 21], [1], [0], [38, 39], range(20, 40))


@pytest.mark.parametrize("odd", ODD_ONES, ids=str)
@pytest.mark.parametrize("run", [by_length, by_expert, by_size])
@pytest.mark.parametrize("max_bytes", [2**31, 4000])
def test_calls_that_only_some_samples_cause(run: Callable, odd: Any, max_bytes: int) -> None:
    """Samples are in order and alike except the odd ones, wherever these are."""
    net = Net(run, a=Linear(3, 3), b=Linear(3, 3))
    net, loss, inputs, targets = problem(net, ((3,),), squared, n=40)
    inputs[:, 0] = torch.linspace(-2, -1, 40)
    inputs[list(odd), 0] = torch.linspace(2, 1, len(odd)).double()
    assert_explicit(Problem(net, loss, inputs, targets), max_bytes=max_bytes)


# ---- kinds of input ------------------------------------------------------------------------


def test_strided_views_and_expanded_inputs_are_welcome() -> None:
    net, loss, inputs, targets = CASES["mlp"].build(10)
    assert_explicit(Problem(net, loss, inputs[::2], targets[::2]))
    assert_explicit(Problem(net, loss, inputs.T.contiguous().T, targets))
    assert_explicit(Problem(net, loss, inputs[:1].expand(10, -1), targets))


def test_int32_tokens_and_a_list_of_layers_in_a_module_list() -> None:
    given = CASES["embedding, mean pooling"].build()
    assert_explicit(Problem(given.net, given.loss, given.inputs.int(), given.targets))


def test_a_loss_may_be_a_module_or_use_the_targets_as_it_likes() -> None:
    given = CASES["mlp"].build()
    assert_explicit(Problem(given.net, nn.CrossEntropyLoss(reduction="none"), *list(given)[2:]))
    assert_explicit(Problem(given.net, lambda out, _: out.logsumexp(1), *list(given)[2:]))


def test_a_net_that_returns_a_dict() -> None:
    net = Net(lambda net, x: {"logits": net.a(x), "hidden": x}, a=Linear(3, 2)).double()
    inputs, targets = torch.randn(5, 3, dtype=torch.float64), torch.randint(2, (5,))
    loss = lambda out, y: F.cross_entropy(out["logits"], y, reduction="none")  # noqa: E731
    assert_explicit(Problem(net, loss, inputs, targets))


# ---- refusals ------------------------------------------------------------------------------

refusal = pytest.mark.refusal


class Mix(nn.Module):
    """A module that lets samples see each other."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def named(mixer: nn.Module) -> nn.Module:
    """The suspect between two others, as ``body.suspect``."""
    body = nn.Sequential()
    body.add_module("before", Linear(4, 4))
    body.add_module("suspect", mixer)
    body.add_module("after", Linear(4, 4))
    return Net(lambda net, x: net.body(x), body=body)


class WrongAxis(nn.MultiheadAttention):
    """Attention that takes the samples for positions: batch_first was forgotten."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x, x, x)[0]


def mixes_by_name(mixer: nn.Module, shape: tuple[int, ...], mode: str) -> None:
    with pytest.raises(ValueError, match=r"body\.suspect"):
        capture(*problem(named(mixer), (shape,), squared), mode=mode)


@refusal
@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize(
    ("name", "shape"),
    [
        *(("centre", (4,)), ("normalise", (4,)), ("reverse", (4,)), ("accumulate", (4,))),
        *(("soften", (3, 4)), ("lean on the first", (3, 4)), ("correlate", (4,))),
    ],
)
def test_a_module_that_mixes_samples_is_refused_by_name(name: str, shape, mode: str) -> None:
    mixing = {
        "centre": lambda x: x - x.mean(0),
        "normalise": lambda x: x / x.norm(),
        "reverse": lambda x: x.flip(0),
        "accumulate": lambda x: x.cumsum(0),
        "soften": lambda x: x.softmax(0),
        "lean on the first": lambda x: x + x[:1],
        "correlate": lambda x: (x @ x.T) @ x,
    }
    mixes_by_name(Mix(mixing[name]), shape, mode)


@refusal
def test_a_module_with_another_order_of_axes_is_not_blamed() -> None:
    net = named(Mix(lambda x: x - x.mean(0)))
    net.body.before = Seq(Mix(lambda x: x.transpose(0, 1)), Linear(4, 4))
    net.body.suspect.function = lambda x: x.transpose(0, 1) - x.mean((0, 1))
    with pytest.raises(ValueError, match=r"body\.suspect"):
        capture(*problem(net, ((3, 4),), squared))


@refusal
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_attention_with_the_wrong_axis_first_is_refused_by_name(mode: str) -> None:
    mixes_by_name(WrongAxis(4, 2), (3, 4), mode)


@refusal
@pytest.mark.parametrize(
    "norm", [nn.BatchNorm1d(4), nn.BatchNorm1d(4, affine=False), nn.SyncBatchNorm(4)]
)
def test_batch_norm_in_training_is_refused_by_name(norm: nn.Module) -> None:
    mixes_by_name(norm, (4,), "train")


@refusal
def test_batch_norm_is_refused_in_the_mode_that_it_is_in() -> None:
    given = problem(named(nn.BatchNorm1d(4)), ((4,),), squared)
    given.net.body.suspect.train()
    capture(*given)
    with pytest.raises(ValueError, match=r"body\.suspect.*BatchNorm1d|BatchNorm1d.*body\.suspect"):
        capture(*given, mode="as_is")


@refusal
def test_batch_norm_without_running_statistics_mixes_in_any_mode() -> None:
    given = problem(named(nn.BatchNorm1d(4, track_running_stats=False)), ((4,),), squared)
    with pytest.raises(ValueError, match=r"body\.suspect"):
        capture(*given)


@refusal
def test_a_net_that_mixes_samples_by_itself_is_refused() -> None:
    given = problem(Net(lambda net, x: net.a(x - x.mean(0)), a=Linear(3, 2)), ((3,),), squared)
    with pytest.raises(ValueError, match="sample"):
        capture(*given)


@refusal
@pytest.mark.parametrize(
    "loss",
    [
        lambda out, y: (out - y).square().mean(),
        lambda out, y: (out - y).square(),
        lambda out, y: (out - y).square().sum(1, keepdim=True),
        lambda out, y: (out - y).square().sum(1)[:-1],
        lambda out, y: (out - y).square().sum(1).tolist(),
        lambda out, y: (out.detach() - y).square().sum(1),
        lambda out, y: (out - y).argmax(1),
    ],
    ids=["mean", "(n, c)", "(n, 1)", "short", "list", "detached", "integers"],
)
def test_a_loss_without_one_value_a_sample_is_refused(loss) -> None:
    net, _, inputs, _ = CASES["mlp without bias"].build()
    with pytest.raises(ValueError, match="loss"):
        capture(net, loss, inputs, net(inputs).detach() + 1)


@refusal
def test_a_loss_that_mixes_samples_is_refused() -> None:
    net, _, inputs, _ = CASES["mlp without bias"].build()
    with pytest.raises(ValueError, match="sample"):
        capture(net, lambda out, y: (out - out.mean(0)).square().sum(1), inputs, inputs)


@refusal
def test_inputs_and_targets_of_different_length_are_refused() -> None:
    net, loss, inputs, targets = CASES["mlp"].build()
    with pytest.raises(ValueError, match=r"targets.*\b5\b.*\b4\b|targets.*\b4\b.*\b5\b"):
        capture(net, loss, inputs, targets[:4])
    net, loss, (x, mask), targets = CASES["tuple inputs with a mask"].build()
    with pytest.raises(ValueError, match=r"inputs.*\b5\b.*\b4\b|inputs.*\b4\b.*\b5\b"):
        capture(net, loss, (x, mask[:4]), targets)


@refusal
def test_other_bad_arguments_are_refused() -> None:
    net, loss, inputs, targets = CASES["mlp"].build()
    with pytest.raises(ValueError, match=r"inputs|sample"):
        capture(net, loss, inputs[:0], targets[:0])
    with pytest.raises(ValueError, match=r"mode.*training"):
        capture(net, loss, inputs, targets, mode="training")
    with pytest.raises(ValueError, match="max_bytes"):
        capture(net, loss, inputs, targets, max_bytes=0)
    with pytest.raises(ValueError, match="requires a gradient"):
        capture(net.requires_grad_(False), loss, inputs, targets)
