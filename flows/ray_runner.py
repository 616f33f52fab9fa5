"""Shards made on the nodes of a Ray cluster."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayTaskError

from flows.progress import Advance
from flows.runners import Result
from trainer.ray_session import ensure_ray


@dataclass(frozen=True)
class OnRay:
    """The Ray cluster that RAY_ADDRESS names (else Ray on this machine), `workers` CPUs of it."""

    workers: int

    @classmethod
    def join(cls) -> "OnRay":
        """Joins the cluster, or starts one here."""
        ensure_ray()
        return cls(max(int(ray.cluster_resources().get("CPU", 1)), 1))

    def run(self, work: Callable[[Advance], Result], units: int, advance: Advance) -> Result:
        """See `Runner`; `work` travels pickled, its files must be where every node sees them."""
        try:
            remote: Any = ray.remote(work_unseen)
            result: Result = ray.get(remote.remote(work))
        except RayTaskError as error:
            raise error.cause from None
        advance(units)
        return result


def work_unseen(work: Callable[[Advance], Result]) -> Result:
    """`work` where nobody watches."""
    return work(lambda _units: None)
