"""The two forms of every loss, and which of them computes: one place for the choice and for logits that are no numbers.

The reference form is plain torch, the specification. The fast form goes over the student's logits in blocks and keeps
nothing as large as they are (`fast.blocks`); its gradient is made in the forward and can be taken once.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch.nn import functional

from xtoken_core.losses.checks import require_finite, require_head, require_logits, require_no_nan
from xtoken_core.losses.fast.blocks import compute
from xtoken_core.losses.fast.student import Head, Logits
from xtoken_core.losses.fast.term import Term
from xtoken_core.losses.sums import LossSum, LossSums

Impl = Literal["fast", "reference"]
Student = torch.Tensor | Head  # logits [N, Vs], or what makes them

_BLOCK = 1 << 20  # logits that are looked through at a time


def shape_of(student: Student) -> torch.Tensor:
    """Something with the shape, type and device of the student's logits, for checks; of a head no logits are made.

    Raises:
        ValueError: for a student that is neither logits nor a head whose parts fit together.
    """
    if isinstance(student, Head):
        require_head(student.hidden, student.weight, student.bias)
        return student.hidden.new_empty(()).expand(student.shape)
    require_logits("student_logits", student)
    return student


def run(
    impl: Impl,
    student: Student,
    teacher: Mapping[str, torch.Tensor],
    reference: Callable[[torch.Tensor], LossSums],
    term: Callable[[], Term],
    targets: torch.Tensor | None = None,
) -> LossSums:
    """The loss in the form that is asked for: `reference` of the student's logits, or one pass over blocks for `term`.

    teacher: by name, the numbers that a loss takes from the teacher. In the reference form all numbers are looked
        through before. The fast form, which meets each row's normalizer and the total anyway, looks for what is wrong
        only after one of these was not finite. A total is infinite, without an error, where a logit of -inf forbids
        what the teacher expects.

    Raises:
        ValueError: for another form, and for nan or +inf in what the loss looks at.
    """
    if impl == "reference":
        _require_numbers(student, teacher)
        return reference(_logits(student))
    if impl != "fast":
        raise ValueError(f"impl is {impl!r}: give 'fast' or 'reference'")
    whole = replace(student, targets=targets) if isinstance(student, Head) else Logits(student, targets)
    computed = compute(whole, [term()])
    if not computed.finite:
        _require_numbers(student, teacher)
    (sums,) = computed.sums
    return replace(sums, loss=LossSum(computed.loss, sums.loss.count))


def _require_numbers(student: Student, teacher: Mapping[str, torch.Tensor]) -> None:
    for name, values in teacher.items():
        (require_finite if name.endswith("_logits") else require_no_nan)(name, values)
    output = student if isinstance(student, Head) else Logits(student)
    rows, columns = output.shape
    height = max(1, _BLOCK // columns)
    for first in range(0, rows, height):
        require_finite("student_logits", output.logits(slice(first, first + height)), first)


def _logits(student: Student) -> torch.Tensor:
    if isinstance(student, torch.Tensor):
        return student
    return functional.linear(student.hidden, student.weight, student.bias)
