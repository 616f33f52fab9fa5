"""Losses on a mesh of processes: each computes its part of a problem, and writes it down at its place in the whole.

`main` runs all `CASES` as one of `WORLD` ranks.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.distributed as dist
from loss_problem import (
    HIDDEN,
    STUDENT_SIZE,
    TEACHER_SIZE,
    WHOLE_VOCABULARY,
    Divided,
    Problem,
    random_projection,
    terms,
)

from xtoken_core.losses.columns import column_maxima, likeliest
from xtoken_core.losses.fast import answers, student
from xtoken_core.losses.fast.blocks import compute
from xtoken_core.losses.fast.shared_chunks import RowOwners
from xtoken_core.losses.fast.student import Head, Logits, StudentOutput, VocabularyShard
from xtoken_core.losses.sums import Measure

WORLD, COLUMNS = 4, 12


@dataclass(frozen=True)
class Case:
    """shards: where the vocabulary is cut. rows: how sequences are divided among the ranks that share them.

    micro_batches: for each data-parallel rank its samples, micro-batch after micro-batch. without: losses left out.
    height: what is added to all logits.
    """

    name: str
    seed: int
    shards: tuple[int, ...] = (0, STUDENT_SIZE)
    rows: str = "whole"
    sequence_ranks: int = 1
    micro_batches: tuple[tuple[tuple[int, ...], ...], ...] = (((0, 1, 2, 3, 4),),)
    from_hidden: bool = False
    dtype: torch.dtype = torch.float64
    without: tuple[str, ...] = ()
    height: float = 0.0

    @property
    def vocabulary_ranks(self) -> int:
        return len(self.shards) - 1

    def problem(self) -> Problem:
        return Problem.random(self.seed, self.dtype)

    def owners(self, problem: Problem) -> RowOwners:
        """Of all rows of the problem."""
        return RowOwners(*(self._owners(chunk.shape) for chunk in (problem.student_chunk, problem.teacher_chunk)))

    def _owners(self, shape: torch.Size) -> torch.Tensor:
        place, ranks = torch.arange(shape[1]).expand(shape), self.sequence_ranks
        if self.rows == "zigzag":
            part = place * 2 * ranks // shape[1]
            return torch.minimum(part, 2 * ranks - 1 - part).flatten()
        if self.rows == "scattered":
            return torch.randint(ranks, shape, generator=torch.Generator().manual_seed(self.seed)).flatten()
        if self.rows == "last has none":
            return (place * (ranks - 1) // shape[1]).flatten()
        return (place * ranks // shape[1]).flatten()


SPLIT = (((0, 3), (), (2,)), ((), (1, 4)))
HALVES = ((0, STUDENT_SIZE - 9, STUDENT_SIZE), (0, 8, STUDENT_SIZE))
THIRDS = (0, 13, STUDENT_SIZE - 1, STUDENT_SIZE)  # the last part has a column of the padded head alone


def cases() -> Iterator[Case]:
    """Each kind of mesh from logits and from hidden states, one of them in single precision."""
    meshes = [
        {"name": "two parts of a vocabulary", "shards": HALVES[0]},
        {"name": "two other parts", "shards": HALVES[1]},
        {"name": "three parts", "shards": THIRDS},
        {"name": "data parallel", "micro_batches": SPLIT},
        {"name": "an idle rank", "micro_batches": (((4, 1), (0,), (3, 2)), ())},
        {"name": "one micro-batch a sample", "micro_batches": (((0,), (1,), (2,), (3,), (4,)),)},
        {"name": "all empty", "micro_batches": (((), ()), ())},
        {"name": "four rows of samples", "micro_batches": (((0,),), ((1,),), ((2,),), ((3,), (4,)))},
        {"name": "halves of sequences", "sequence_ranks": 2, "rows": "contiguous"},
        {"name": "sequences in zigzag", "sequence_ranks": 2, "rows": "zigzag"},
        {"name": "thirds of sequences", "sequence_ranks": 3, "rows": "contiguous"},
        {"name": "scattered rows", "sequence_ranks": 3, "rows": "scattered"},
        {"name": "a rank without rows", "sequence_ranks": 3, "rows": "last has none"},
        {"name": "sequences and data", "sequence_ranks": 2, "rows": "zigzag", "micro_batches": SPLIT},
        {"name": "sequences and vocabulary", "sequence_ranks": 2, "rows": "contiguous", "shards": HALVES[0]},
        {"name": "vocabulary and data", "shards": HALVES[1], "micro_batches": SPLIT},
        {"name": "two parts far above zero", "shards": HALVES[0], "height": 200.0},  # exp would overflow, or vanish
    ]
    for seed, (mesh, from_hidden) in enumerate(itertools.product(meshes, (False, True))):
        dtype = torch.float32 if seed % 4 in (0, 3) else torch.float64
        name = f"{mesh['name']}, from {'hidden states' if from_hidden else 'logits'}"
        without = WHOLE_VOCABULARY if "shards" in mesh else ()
        yield Case(**mesh | {"name": name}, seed=seed, from_hidden=from_hidden, dtype=dtype, without=without)


CASES = tuple(cases())


@dataclass(frozen=True, eq=False)
class Place:
    """One rank of a case's mesh: its number in each direction, and the groups that it is in there."""

    data: int = 0
    sequence: int = 0
    vocabulary: int = 0
    sequences: dist.ProcessGroup | None = None
    vocabularies: dist.ProcessGroup | None = None
    everybody: dist.ProcessGroup | None = None


@dataclass(frozen=True, eq=False)
class Found:
    """What one rank found, each tensor as large as the whole problem's, zero where others have their part."""

    place: tuple[int, int, int]
    totals: dict[str, torch.Tensor]
    counts: dict[str, int]
    measures: dict[tuple[str, Measure, str], float]
    squares: dict[str, torch.Tensor]
    gradients: dict[str, torch.Tensor]


class Part:
    """The work of one rank: all of its micro-batches."""

    def __init__(self, case: Case, place: Place) -> None:
        self.case, self.place, self.problem = case, place, case.problem()
        self.projection = random_projection(case.seed, case.dtype)
        self.owners = case.owners(self.problem)
        random = torch.Generator().manual_seed(case.seed)
        self.weight = torch.randn(STUDENT_SIZE, HIDDEN, dtype=case.dtype, generator=random)
        self.bias = torch.randn(STUDENT_SIZE, dtype=case.dtype, generator=random) + case.height
        self.logits = self.problem.hidden @ self.weight.T + self.bias
        own = slice(case.shards[place.vocabulary], case.shards[place.vocabulary + 1])
        self.columns = own
        self.leaves = {name: getattr(self, name)[own].clone().requires_grad_() for name in ("weight", "bias")}
        self.gradients = {
            "logits": torch.zeros_like(self.logits).flatten(0, 1),
            "hidden": torch.zeros_like(self.problem.hidden).flatten(0, 1),
        }

    def run(self) -> Found:
        batches = self.case.micro_batches[self.place.data]
        divided = [self._divided(samples) for samples in batches]
        problems = [self.problem.samples(samples) for samples in batches]
        columns = likeliest(self._maxima(problems, divided), COLUMNS)
        parts = [self._terms(problem, own, columns) for problem, own in zip(problems, divided, strict=True)]
        names = [*self._terms(self.problem.samples([]), self._divided(()), columns)]
        self.found = Found(
            (self.place.data, self.place.sequence, self.place.vocabulary),
            {name: torch.zeros((), dtype=self.case.dtype) for name in names},
            {name: sum(part[name].count for part in parts) for name in names},
            {},
            {name: torch.zeros((), dtype=self.case.dtype) for name in names},
            self.gradients,
        )
        factors = self._factors()
        for samples, own, part in zip(batches, divided, parts, strict=True):
            self._micro_batch(samples, own, part, factors)
        self._keep_leaves()
        return self.found

    def _divided(self, samples: tuple[int, ...]) -> Divided:
        index = torch.tensor(samples, dtype=torch.int64)
        sides = (owner.unflatten(0, (len(self.problem.hidden), -1))[index] for owner in vars(self.owners).values())
        return Divided(RowOwners(*(side.flatten() for side in sides)), self.place.sequences, self.place.sequence)

    def _maxima(self, problems: list[Problem], divided: list[Divided]) -> torch.Tensor:
        """Over all rows of all ranks."""
        pairs = zip(problems, divided, strict=True)
        rows = [problem.teacher_logits.flatten(0, 1)[own.teacher_rows()] for problem, own in pairs]
        maxima = column_maxima(torch.cat([*rows, self.problem.teacher_logits[0, :0]]), TEACHER_SIZE)
        if self.place.everybody is not None:
            dist.all_reduce(maxima, dist.ReduceOp.MAX, self.place.everybody)
        return maxima

    def _terms(self, problem: Problem, divided: Divided, columns: torch.Tensor) -> dict:
        found = terms(problem, divided, self.projection, columns)
        here = torch.device("cpu")
        return {name: term.to(here) for name, term in found.items() if name not in self.case.without}

    def _factors(self) -> torch.Tensor:
        """One over how much each loss counts anywhere, in any micro-batch."""
        counts = torch.tensor([*self.found.counts.values()], dtype=self.case.dtype)
        if self.place.everybody is not None:
            dist.all_reduce(counts, group=self.place.everybody)
        return 1 / (counts / self.case.vocabulary_ranks).clamp(min=1)

    def _micro_batch(self, samples: tuple[int, ...], divided: Divided, part: dict, factors: torch.Tensor) -> None:
        rows = torch.arange(len(self.gradients["logits"])).unflatten(0, self.problem.targets.shape)
        rows = rows[torch.tensor(samples, dtype=torch.int64)].flatten()[divided.student_rows()]
        output, leaf = self._output(rows)
        computed = compute(output, [*part.values()], factors, norms=True)
        computed.loss.backward()
        self._keep(part, computed)
        name = "hidden" if self.case.from_hidden else "logits"
        columns = slice(None) if self.case.from_hidden else self.columns
        self.gradients[name][rows, columns] += leaf.grad

    def _output(self, rows: torch.Tensor) -> tuple[StudentOutput, torch.Tensor]:
        group = self.place.vocabularies
        shard = None if group is None else VocabularyShard(self.columns.start, group)
        targets = self.problem.targets.flatten()[rows]
        if self.case.from_hidden:
            hidden = self.problem.hidden.flatten(0, 1)[rows].requires_grad_()
            return Head(hidden, self.leaves["weight"], self.leaves["bias"], targets, shard), hidden
        logits = self.logits.flatten(0, 1)[rows, self.columns].requires_grad_()
        return Logits(logits, targets, shard), logits

    def _keep(self, part: dict, computed) -> None:
        assert computed.gradient_norms is not None
        for name, sums, norm in zip(part, computed.sums, computed.gradient_norms, strict=True):
            self.found.totals[name] += sums.loss.total
            self.found.squares[name] += norm**2
            for measure, own in sums.measures.items():
                for key, value in (("total", own.total), ("count", own.count)):
                    place = (name, measure, key)
                    self.found.measures[place] = self.found.measures.get(place, 0.0) + float(value)

    def _keep_leaves(self) -> None:
        for name, leaf in self.leaves.items():
            whole = torch.zeros_like(getattr(self, name))
            whole[self.columns] = 0.0 if leaf.grad is None else leaf.grad
            self.gradients[name] = whole
        weights = self.projection.weights
        self.gradients["projection"] = torch.zeros_like(weights) if weights.grad is None else weights.grad


def alone(case: Case) -> Found:
    """The same problem in one process: all samples in one batch."""
    samples = [sample for rank in case.micro_batches for batch in rank for sample in batch]
    whole = {"shards": (0, STUDENT_SIZE), "rows": "whole", "sequence_ranks": 1, "micro_batches": ((tuple(samples),),)}
    return Part(replace(case, **whole), Place()).run()


class Mesh:
    """Groups of ranks, each made once, by all ranks in the same order."""

    def __init__(self) -> None:
        self._groups: dict[tuple[int, ...], dist.ProcessGroup] = {}

    def place(self, case: Case, rank: int) -> Place | None:
        """Where `rank` is in the mesh of the case, None outside."""
        shape = (len(case.micro_batches), case.sequence_ranks, case.vocabulary_ranks)
        ranks = torch.arange(shape[0] * shape[1] * shape[2]).view(shape)
        everybody = self._group(ranks.flatten())
        sequences = [self._group(own) for own in ranks.transpose(1, 2).flatten(0, 1)]
        vocabularies = [self._group(own) for own in ranks.flatten(0, 1)]
        if rank >= ranks.numel():
            return None
        data, sequence, vocabulary = ((ranks == rank).nonzero()[0]).tolist()
        return Place(
            data,
            sequence,
            vocabulary,
            sequences[data * shape[2] + vocabulary] if shape[1] > 1 else None,
            vocabularies[data * shape[1] + sequence] if shape[2] > 1 else None,
            everybody,
        )

    def _group(self, ranks: torch.Tensor) -> dist.ProcessGroup:
        key = tuple(ranks.tolist())
        if key not in self._groups:
            self._groups[key] = dist.new_group([*key])
        return self._groups[key]


def main(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    # Small enough that ranks with parts of different size would make different blocks, if they did not agree.
    student._CPU_BLOCK = student._CPU_HEAD_BLOCK = 12 * STUDENT_SIZE
    answers._PIECE = 3 * STUDENT_SIZE
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=WORLD)
    mesh = Mesh()
    places = [mesh.place(case, rank) for case in CASES]
    found = {case.name: Part(case, place).run() for case, place in zip(CASES, places, strict=True) if place is not None}
    torch.save(found, folder / f"{rank}.pt")
    torch.save({case.name: alone(case) for case in CASES[rank::WORLD]}, folder / f"alone{rank}.pt")
    dist.barrier()
