import pytest

from grokscope.nets import doshi_std, levi_std


@pytest.mark.refusal
def test_widths_below_one_are_refused():
    with pytest.raises(ValueError, match="n_hidden must be an integer >= 1"):
        doshi_std(0)
    with pytest.raises(ValueError, match="d_in must be an integer >= 1"):
        levi_std(0, 1)
