"""Sources of the corpus that are seen more or less often than once an epoch."""

from fractions import Fraction

import numpy as np

from trainer.errors import DataError
from trainer.job import SourceWeight
from trainer.order import Mixture
from trainer.windows import StudentWindows, WindowSet

_SHOWN_NAMES = 10


def mixture_of(student: StudentWindows, windows: WindowSet, weights: tuple[SourceWeight, ...]) -> Mixture:
    """How often an epoch takes each of `windows`: as the weight of its source says, once without one.

    Raises:
        DataError: if a weight is given to a source that the corpus does not have.
    """
    weight_of = {weight.name: Fraction(str(weight.weight)) for weight in weights}
    _require_known(student, weight_of.keys() - set(student.source_names))
    return Mixture(
        groups=tuple(np.flatnonzero(windows.sources == code) for code in range(len(student.source_names))),
        weights=tuple(weight_of.get(name, Fraction(1)) for name in student.source_names),
    )


def _require_known(student: StudentWindows, unknown: set[str]) -> None:
    if unknown:
        names = sorted(student.source_names)
        more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
        raise DataError(
            f"source_weights names {', '.join(sorted(unknown))}, but the windows in {student.windows_folder} are of "
            f"{', '.join(names[:_SHOWN_NAMES])}{more}: give the name of a source of the corpus"
        )
