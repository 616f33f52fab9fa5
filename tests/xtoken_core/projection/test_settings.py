import math
from collections.abc import Callable

import pytest

from xtoken_core.projection import (
    CooccurrenceSettings,
    NameSettings,
    NearestSettings,
    ProjectionSettings,
    SplitSettings,
)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: ProjectionSettings(top_k=0), "top_k"),
        (lambda: ProjectionSettings(top_k=1, scale_slot=True), "set top_k to 2 or more"),
        (lambda: ProjectionSettings(min_weight=1.5), "min_weight"),
        (lambda: ProjectionSettings.model_validate({"split": {"max_peices": 3}}), "split.max_peices"),
        (lambda: SplitSettings(max_pieces=0), "max_pieces"),
        (lambda: SplitSettings(reverse=-1), "reverse"),
        (lambda: SplitSettings(forward=math.nan), "forward"),
        (lambda: SplitSettings(forward=math.inf), "forward"),
        (lambda: SplitSettings(decay=1.1), "decay"),
        (lambda: NameSettings(threshold=2), "threshold"),
        (lambda: NearestSettings(temperature=0), "temperature"),
        (lambda: NearestSettings(k=0), "k"),
        (lambda: CooccurrenceSettings(prior=-0.1), "prior"),
    ],
)
def test_impossible_settings(make: Callable[[], object], name: str) -> None:
    with pytest.raises(ValueError, match=rf"validation error for \w+\n.*{name}"):
        make()
