"""The weights of p_kl's projections, where a run trains them beside the student.

Their gradients come from the loss and not through the student's forward pass, so that DDP, which wraps the student,
knows nothing of them: they are averaged over the workers here, in the same way.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from storage.artifact import ArtifactSpec, ArtifactWriter
from storage.hashing import bytes_checksum
from storage.projections import KIND, TENSORS, projection_bytes
from trainer.group import Group
from trainer.job import TrainingSettings
from trainer.teachers import TeacherData
from xtoken_core.projection.learnable import LearnableProjection

LOGITS_NAME = "projections.safetensors"  # what a run goes on from
FOLDER = "projections"  # in a checkpoint: a projection artifact for each teacher that has a learnt one
ALGORITHM_VERSION = 1


class LearntProjection(nn.Module):
    """The projection of one teacher; where its last column is empty, that is a scale slot."""

    start: torch.Tensor

    def __init__(self, teacher: TeacherData) -> None:
        super().__init__()
        assert teacher.projection is not None
        self.teacher, self._built = teacher, teacher.projection
        self.learnable = LearnableProjection(self._built, self._built.has_scale_slot)
        self.register_buffer("start", self.learnable().detach(), persistent=False)

    @property
    def name(self) -> str:
        """The teacher's."""
        return self.teacher.inputs.name

    def change(self) -> float:
        """How far an entry's weight is from where it started, the mean over all entries."""
        difference = self.learnable().detach() - self.start
        return float(difference[self.learnable.indices >= 0].abs().mean())

    def slot_share(self) -> float | None:
        """What a row gives to its scale slot, the mean over the rows with entries; None without a slot."""
        if not self.learnable.scale_slot:
            return None
        kept = self.learnable().detach().sum(dim=1)
        return float(1 - kept[(self.learnable.indices >= 0).any(dim=1)].mean())

    def write(self, folder: Path) -> None:
        """Make `folder` an artifact of the projection with the weights of now."""
        learnt = self.learnable.projection(self._built.rules)
        data = projection_bytes(learnt, self.teacher.student_vocabulary, self.teacher.vocabulary)
        key = bytes_checksum(data)
        writer = ArtifactWriter(folder, ArtifactSpec(KIND, ALGORITHM_VERSION, {"learnt": key}))
        writer.finish([writer.write_bytes(TENSORS, key, data)])


class LearntProjections(nn.Module):
    """All projections that a run learns: of each teacher with p_kl where there is a learning rate for them, or none."""

    def __init__(self, settings: TrainingSettings, teachers: Sequence[TeacherData]) -> None:
        super().__init__()
        are_learnt = settings.projection_learning_rate is not None
        self._of_teacher = [
            LearntProjection(teacher) if are_learnt and teacher.inputs.loss == "p_kl" else None for teacher in teachers
        ]
        self._learnt = [projection for projection in self._of_teacher if projection is not None]
        for number, projection in enumerate(self._learnt):
            self.add_module(str(number), projection)

    def weights(self) -> tuple[torch.Tensor | None, ...]:
        """For each teacher the weights of now, to differentiate, [student ids, k]; None where they are not learnt."""
        return tuple(None if projection is None else projection.learnable() for projection in self._of_teacher)

    def average_gradients(self, group: Group) -> None:
        """Give all ranks the mean of their gradients; a rank, or a step, without chunks of a teacher adds zeros."""
        for parameter in self.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            group.average_(parameter.grad)

    def changes(self) -> dict[str, float]:
        """`LearntProjection.change` by teacher."""
        return {projection.name: projection.change() for projection in self._learnt}

    def slot_shares(self) -> dict[str, float]:
        """`LearntProjection.slot_share` by teacher, of those that have a slot."""
        shares = {projection.name: projection.slot_share() for projection in self._learnt}
        return {name: share for name, share in shares.items() if share is not None}

    def save(self, checkpoint: Path) -> None:
        """Write what a run goes on from, and an artifact of each projection; nothing where none is learnt."""
        if self._learnt:
            save_file(self.state_dict(), checkpoint / LOGITS_NAME)
        for projection in self._learnt:
            projection.write(checkpoint / FOLDER / projection.name)

    def load(self, checkpoint: Path) -> None:
        """Go on from what `save` wrote."""
        if self._learnt:
            self.load_state_dict(load_file(checkpoint / LOGITS_NAME))
