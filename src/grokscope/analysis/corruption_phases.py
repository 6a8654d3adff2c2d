"""What a net made of a task with wrong training labels, from its accuracies."""

from __future__ import annotations

from grokscope.validation import require_float

COEXISTENCE = "coexistence"
PARTIAL_INVERSION = "partial inversion"
FULL_INVERSION = "full inversion"
MEMORISATION = "memorisation"
FORGETTING = "forgetting"
CONFUSION = "confusion"


def corruption_phase(
    train_acc: float, test_acc: float, corruption: float, *, had_generalised: bool = False
) -> str:
    """The phase of a net that was trained with a share of random labels.

    | phase | test accuracy | accuracy on the training labels, wrong ones included |
    | --- | --- | --- |
    | coexistence | >= 0.9 | >= 0.9 |
    | partial inversion | >= 0.9 | < 0.9, and at least 1.05 - corruption |
    | full inversion | >= 0.9 | < 1.05 - corruption: wrong labels are answered rightly |
    | memorisation | < 0.9 | >= 0.9 |
    | forgetting, confusion | < 0.9 | < 0.9 |

    Forgetting is confusion after having generalised: the weights have decayed. For corruption
    below 0.15 the limit 1.05 - corruption is above 0.9; then there is no partial inversion, as
    the table's order of columns implies (our reading).

    Args:
        train_acc: In [0, 1], in evaluation mode.
        test_acc: In [0, 1], on right labels.
        corruption: Share of random training labels.
        had_generalised: Whether the test accuracy was 0.9 at some earlier time.

    Source:
        Doshi et al. 2024, arXiv:2310.13061, appendix C.
    """
    for name, value in (("train_acc", train_acc), ("test_acc", test_acc)):
        require_float(name, value, minimum=0.0, maximum=1.0)
    require_float("corruption", corruption, minimum=0.0, below=1.0)
    memorised = train_acc >= 0.9
    if test_acc >= 0.9:
        if memorised:
            return COEXISTENCE
        return PARTIAL_INVERSION if train_acc >= 1.05 - corruption else FULL_INVERSION
    if memorised:
        return MEMORISATION
    return FORGETTING if had_generalised else CONFUSION
