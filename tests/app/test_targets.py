from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from grokscope.app.errors import UserError
from grokscope.app.targets import allowed_targets, check_targets

CONFIGS = Path(__file__).parents[2] / "configs"


def test_targets_in_blocks_and_in_braces_are_ours():
    allowed = allowed_targets(CONFIGS)
    assert {"grokscope.nets.MLP", "grokscope.nets.doshi_std", "torch.optim.AdamW"} <= allowed


def test_a_commented_target_does_not_count(tmp_path):
    (tmp_path / "x.yaml").write_text("# _target_: os.system\na: {_target_: a.B}\n")
    assert allowed_targets(tmp_path) == {"a.B"}


@pytest.mark.refusal
@pytest.mark.parametrize(
    ("config", "key"),
    [
        ({"_target_": "os.system"}, "_target_"),
        ({"a": [{"b": {"_target_": "os.system"}}]}, "a.0.b._target_"),
        ({"a": {"_target_": "${b}"}, "b": "grokscope.nets.MLP"}, "a._target_"),
        ({"a": {"_target_": ["os.system"]}}, "a._target_"),
    ],
)
def test_any_other_target_is_refused_with_its_key(config, key):
    with pytest.raises(UserError, match=rf"^{key} must name one of our own classes"):
        check_targets(OmegaConf.create(config), CONFIGS)
