"""What each loss makes of the windows of a micro-batch, by the name it has in a config."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Self

import torch

from trainer.errors import DataError
from trainer.job import TrainingSettings
from trainer.loss_settings import LossName
from trainer.teachers import TeacherData, TeacherRows
from trainer.terms.covers import places_of, reading_of, records_before
from trainer.terms.plan import Ready, Shared, Whole
from trainer.terms.predictions import Predictions
from trainer.terms.teacher_logits import dense_logits, logits_of_all
from trainer.terms.text_chunks import TextChunks
from xtoken_core.align import prefix_boundaries
from xtoken_core.losses.chunks import Chunks
from xtoken_core.losses.columns import column_maxima
from xtoken_core.losses.common import common_tokens
from xtoken_core.losses.divergence import Divergence
from xtoken_core.losses.fast.alm import ALM
from xtoken_core.losses.fast.chunk_table import ChunkTable
from xtoken_core.losses.fast.direct_kl import DirectKL, DirectKLTopK
from xtoken_core.losses.fast.gold import Gold
from xtoken_core.losses.fast.p_kl import PKL
from xtoken_core.losses.fast.position_term import Positions
from xtoken_core.losses.fast.prefix_kl import PrefixKL
from xtoken_core.losses.fast.term import Term
from xtoken_core.losses.fast.uld import ULD, ULDTopK
from xtoken_core.losses.prefix_cells import PrefixCells
from xtoken_core.losses.prefix_covers import PrefixCovers
from xtoken_core.losses.settings import GoldSettings, KLSettings, LossSettings
from xtoken_core.losses.topk import TopK
from xtoken_core.tokenizer import Tokenizer
from xtoken_core.topk import Records
from xtoken_core.vocabulary import Vocabulary


@dataclass(frozen=True, eq=False)
class Part:
    """What a micro-batch has for one teacher: its windows, their chunks, and the student's predictions."""

    rows: TeacherRows
    chunks: TextChunks
    predictions: Predictions


@dataclass(frozen=True, eq=False)
class Pieces:
    """What a loss makes of a part, see `TermPlan`."""

    count: int
    ready: Callable[[], Ready]
    column_scores: torch.Tensor | None = None
    positions: Positions | None = None

    @classmethod
    def nothing(cls, positions: Positions) -> Self:
        """Of a part without any item; nothing asks it to be ready."""

        def ready() -> Ready:
            raise AssertionError("there is nothing to compare")

        return cls(0, ready, positions=positions)


LossBuilder = Callable[[Part], Pieces]


@dataclass(frozen=True, eq=False)
class Pair:
    """A teacher, the student's vocabulary and the folder of its tokenizer, and how the student is trained."""

    teacher: TeacherData
    student: Vocabulary
    student_tokenizer: Path
    settings: TrainingSettings

    @property
    def divergence(self) -> Divergence:
        """As the losses take it."""
        kind, beta = self.settings.divergence.kind, self.settings.divergence.beta
        return Divergence(kind) if beta is None else Divergence(kind, beta)

    @property
    def kl(self) -> KLSettings:
        """Of losses that are a divergence."""
        return KLSettings(self.settings.temperature, self.divergence)

    @property
    def plain(self) -> LossSettings:
        """Of the others."""
        return LossSettings(self.settings.temperature)


def loss_builder(pair: Pair) -> LossBuilder:
    """The builder of the teacher's loss: the part of the work that is the same for all batches is done here."""
    return _BUILDERS[pair.teacher.inputs.loss](pair)


def _prefix_kl(pair: Pair) -> LossBuilder:
    cells = PrefixCells.between(pair.student, pair.teacher.vocabulary)

    def loss(positions: Positions, records: Records) -> Ready:
        return Whole(PrefixKL(positions, cells.of(records), pair.kl))

    return partial(_at_boundaries, pair, loss)


def _cover_kl(pair: Pair) -> LossBuilder:
    teacher, student = pair.teacher, pair.student
    covers = PrefixCovers.between(Tokenizer.load(pair.student_tokenizer, lossy=True), student, teacher.vocabulary)

    def pieces(part: Part) -> Pieces:
        rows = part.rows
        places = places_of(rows, student, teacher.vocabulary)
        token = rows.first_token[places.row] + places.student_token - 1
        positions = Positions.of(part.predictions.index(token))
        if not len(positions):
            return Pieces.nothing(positions)
        read = partial(teacher.records, rows)
        records = read(places.row, places.teacher_token - 1)
        before = records_before(places, rows, teacher.vocabulary, read)

        def ready() -> Ready:
            cells = covers.of(reading_of(places, rows, teacher.vocabulary), records, before)
            return Whole(PrefixKL(positions, cells, pair.kl))

        return Pieces(len(positions), ready, positions=positions)

    return pieces


def _direct_kl(pair: Pair) -> LossBuilder:
    size, tokens, is_whole = pair.student.size, pair.teacher.vocabulary.size, pair.teacher.cache.is_whole
    if size < tokens:
        raise DataError(
            f"direct_kl of teacher {pair.teacher.inputs.name} compares {tokens:,} tokens, and the student's model has "
            f"rows for {size:,}: resize its embeddings (model.resize_token_embeddings), or use `loss: prefix_kl`"
        )

    def loss(positions: Positions, records: Records) -> Ready:
        if is_whole:
            return ReadyDirectKL(positions, dense_logits(records, tokens), size, pair.kl)
        return Whole(DirectKLTopK(positions, TopK.of(records), size, pair.kl))

    return partial(_at_boundaries, pair, loss)


def _uld(pair: Pair) -> LossBuilder:
    is_whole = pair.teacher.cache.is_whole

    def loss(positions: Positions, records: Records) -> Ready:
        if is_whole:
            return Whole(ULD(positions, dense_logits(records, pair.teacher.vocabulary.size), pair.plain))
        return Whole(ULDTopK(positions, TopK.of(records), pair.student.size, pair.plain))

    return partial(_at_boundaries, pair, loss)


def _at_boundaries(pair: Pair, loss: Callable[[Positions, Records], Ready], part: Part) -> Pieces:
    """A loss at the boundaries where both models have read the same bytes."""
    dummy_prefix = pair.student.dummy_prefix or pair.teacher.vocabulary.dummy_prefix
    found = prefix_boundaries(part.rows.alignment, part.rows.loss_mask, dummy_prefix)
    positions = Positions.of(part.predictions.index(part.rows.first_token[found.row] + found.student_position))
    if not len(positions):
        return Pieces.nothing(positions)
    # Read here and not in `ready`, so that damage is found where all ranks learn of it.
    records = pair.teacher.records(part.rows, found.row, found.teacher_position)
    scores = None
    if pair.teacher.inputs.vocab_topk is not None:
        scores = column_maxima(dense_logits(records, pair.teacher.vocabulary.size), pair.teacher.vocabulary.size)
    return Pieces(len(positions), lambda: loss(positions, records), scores, positions)


@dataclass(frozen=True, eq=False)
class ReadyDirectKL:
    """direct_kl of whole distributions, over the columns that all ranks compare, or over all."""

    positions: Positions
    teacher_logits: torch.Tensor
    student_size: int
    settings: KLSettings

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        logits = self.teacher_logits.to(device, non_blocking=True)
        return replace(self, positions=self.positions.to(device), teacher_logits=logits)

    def term(self, shared: Shared) -> Term:
        """See `Ready.term`."""
        return DirectKL(self.positions, self.teacher_logits, shared.columns, self.student_size, self.settings)


def _alm(pair: Pair) -> LossBuilder:
    def pieces(part: Part) -> Pieces:
        kept = part.chunks.wholly_predicted & part.chunks.exact
        next_logprob = torch.from_numpy(pair.teacher.summaries(part.rows).next_logprob)

        def ready() -> Ready:
            chunks = part.chunks.chunks(kept, part.rows, part.predictions)
            return Whole(ALM(ChunkTable.of(chunks), next_logprob, pair.plain))

        return Pieces(int(kept.sum()), ready)

    return pieces


def _p_kl(pair: Pair) -> LossBuilder:
    teacher = pair.teacher

    def pieces(part: Part) -> Pieces:
        kept = part.chunks.predicted & (part.chunks.exact | (not teacher.inputs.exact_chunks_only))

        def ready() -> Ready:
            table = ChunkTable.of(part.chunks.chunks(kept, part.rows, part.predictions))
            return ReadyPKL(table, logits_of_all(teacher, part.rows), pair.kl)

        scores = column_maxima(logits_of_all(teacher, part.rows), teacher.vocabulary.size)
        return Pieces(int(kept.sum()), ready, scores)

    return pieces


@dataclass(frozen=True, eq=False)
class ReadyPKL:
    """p_kl over the columns that all ranks compare."""

    table: ChunkTable
    teacher_logits: torch.Tensor
    settings: KLSettings

    def to(self, device: torch.device) -> Self:
        """The same on another device."""
        return replace(
            self, table=self.table.to(device), teacher_logits=self.teacher_logits.to(device, non_blocking=True)
        )

    def term(self, shared: Shared) -> Term:
        """See `Ready.term`."""
        assert shared.entries is not None
        return PKL(self.table, self.teacher_logits, shared.entries, self.settings)


def _gold(pair: Pair) -> LossBuilder:
    teacher, inputs = pair.teacher, pair.teacher.inputs
    sizes = pair.student.size, teacher.vocabulary.size
    common = common_tokens(teacher.projection_tensors(pair.student.size), *sizes, inputs.common_threshold)
    settings = GoldSettings(pair.settings.temperature, pair.divergence, inputs.uncommon_columns)

    def ready(part: Part, chunks: Chunks) -> Ready:
        return Whole(Gold(ChunkTable.of(chunks), logits_of_all(teacher, part.rows), common, settings))

    def pieces(part: Part) -> Pieces:
        teacher.require_known_ids(part.rows)
        chunks = part.chunks.chunks(part.chunks.predicted, part.rows, part.predictions)
        return Pieces(len(chunks), partial(ready, part, chunks))

    return pieces


_BUILDERS: dict[LossName, Callable[[Pair], LossBuilder]] = {
    "prefix_kl": _prefix_kl,
    "cover_kl": _cover_kl,
    "direct_kl": _direct_kl,
    "uld": _uld,
    "alm": _alm,
    "p_kl": _p_kl,
    "gold": _gold,
    "h_kl": _gold,
}
