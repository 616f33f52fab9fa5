import math

import pytest

from xtoken_core.projection import (
    CooccurrenceSettings,
    NameSettings,
    NearestSettings,
    ProjectionSettings,
    SplitSettings,
)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ProjectionSettings(top_k=0), "projection: top_k is 0; it must be at least 1."),
        (lambda: ProjectionSettings(top_k=1, scale_slot=True), "projection: top_k is 1; it must be at least 2."),
        (lambda: ProjectionSettings(min_weight=1.5), "min_weight is 1.5; it must be at least 0 and at most 1."),
        (lambda: SplitSettings(max_pieces=0), "split: max_pieces is 0; it must be at least 1."),
        (lambda: SplitSettings(reverse=-1), "split: reverse is -1; it must be at least 0."),
        (lambda: SplitSettings(forward=math.nan), "split: forward is nan"),
        (lambda: SplitSettings(forward=math.inf), "split: forward is inf"),
        (lambda: NameSettings(threshold=2), "names: threshold is 2"),
        (lambda: NearestSettings(temperature=0), "nearest: temperature is 0; it must be above 0."),
        (lambda: NearestSettings(k=0), "nearest: k is 0"),
        (lambda: CooccurrenceSettings(prior=-0.1), "cooccurrence: prior is -0.1"),
    ],
)
def test_impossible_settings(make, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        make()
