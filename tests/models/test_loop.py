from __future__ import annotations

import pytest
import torch
from lightning import Callback
from small import LossEveryEpoch, assert_equal, data, module, state, trainer

from grokscope.models.losses import squared_norm

BATCHES = [None, 8]


class Recorder(Callback):
    """Says that it wants every n-th epoch, and writes down what it is shown."""

    def __init__(self, n: int) -> None:
        self.n, self.steps, self.epochs = n, [], []

    def next_due(self, epoch: int) -> int:
        return -(-epoch // self.n) * self.n

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        self.steps.append((trainer.current_epoch, trainer.global_step))

    def on_train_epoch_end(self, trainer, pl_module) -> None:
        self.epochs.append(trainer.current_epoch)


def fit(epochs: int = 23, batch_size=None, callbacks=(), model=None, ckpt_path=None):
    torch.manual_seed(1)
    model = model or module()
    done = trainer(epochs, callbacks)
    done.fit(model, datamodule=data(batch_size), ckpt_path=ckpt_path, weights_only=True)
    return model, done


@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_many_steps_a_call_and_one_give_bit_equal_states(batch_size, dropout: float) -> None:
    many = fit(batch_size=batch_size, model=module("many", dropout))
    one = fit(batch_size=batch_size, model=module("one", dropout))
    assert_equal(state(*many), state(*one))


@pytest.mark.parametrize("batch_size", BATCHES)
def test_an_observer_of_every_epoch_changes_nothing(batch_size) -> None:
    assert_equal(
        state(*fit(batch_size=batch_size)),
        state(*fit(batch_size=batch_size, callbacks=[Recorder(1)])),
    )


@pytest.mark.parametrize(("batch_size", "steps"), [(None, 1), (8, 3)])
@pytest.mark.parametrize("steps_per_call", ["many", "one"])
def test_epochs_and_steps_mean_passes_and_optimizer_steps(
    batch_size, steps: int, steps_per_call: str
) -> None:
    recorder = Recorder(7)
    _, done = fit(batch_size=batch_size, callbacks=[recorder], model=module(steps_per_call))
    assert done.current_epoch == 23
    assert done.global_step == 23 * steps
    observed = [s for s in recorder.steps if s[0] % 7 == 0]
    assert observed == [(e, e * steps + s) for e in (0, 7, 14, 21) for s in range(steps)]
    assert {0, 7, 14, 21} <= set(recorder.epochs)


@pytest.mark.parametrize("batch_size", BATCHES)
@pytest.mark.parametrize("steps_per_call", ["many", "one"])
@pytest.mark.parametrize("stop_at", [1, 10])
def test_stop_and_resume_equals_an_uninterrupted_run(
    batch_size, steps_per_call: str, stop_at: int, tmp_path
) -> None:
    whole = fit(batch_size=batch_size, model=module(steps_per_call, 0.3))
    _, first = fit(stop_at, batch_size, model=module(steps_per_call, 0.3))
    first.save_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    fresh = module(steps_per_call, 0.3, seed=5)
    resumed = fit(batch_size=batch_size, model=fresh, ckpt_path=tmp_path / "last.ckpt")
    assert resumed[1].current_epoch == 23
    assert resumed[1].global_step == whole[1].global_step
    assert_equal(state(*whole), state(*resumed))


def test_a_stop_asked_for_ends_after_the_pass() -> None:
    class Stop(Recorder):
        def on_train_epoch_end(self, trainer, pl_module) -> None:
            trainer.should_stop = trainer.current_epoch >= 9

    _, done = fit(epochs=1000, callbacks=[Stop(3)])
    assert done.current_epoch == 10


def test_one_pass_of_batches_sees_every_sample_once() -> None:
    task = data(8)
    task.setup()
    rows = torch.cat(list(task.batch_rows(3)))
    assert sorted(rows.tolist()) == list(range(len(task.train)))
    assert not torch.equal(rows, torch.cat(list(task.batch_rows(4))))
    assert torch.equal(rows, torch.cat(list(task.batch_rows(3))))


def test_the_loop_is_plain_full_batch_training() -> None:
    model, _ = fit(epochs=4)
    reference = module()
    task = data()
    task.setup()
    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-2, weight_decay=0.5)
    for step in range(4):
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * min(step / 5, 1)
        one_hot = torch.nn.functional.one_hot(task.train.targets, 7)
        loss = ((reference.net(task.train.inputs) - one_hot) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for a, b in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(a, b)


def test_l2_is_minimised_with_the_loss_and_not_recorded_in_it() -> None:
    seen = LossEveryEpoch()
    plain, _ = fit(epochs=3)
    penalised, _ = fit(epochs=3, callbacks=[seen], model=module(l2=10.0))
    norms = [float(squared_norm([p.detach() for p in m.parameters()])) for m in (plain, penalised)]
    assert norms[1] < norms[0]
    assert seen.seen[0]["train_loss"] < 1.0 < 10.0 * norms[0]
