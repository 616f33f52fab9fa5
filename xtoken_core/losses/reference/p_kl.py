"""P-KL: the student's probabilities, projected onto the teacher's vocabulary, against the teacher's.

For a chunk c with student positions S_c and teacher positions T_c, projection W and compared teacher ids (columns) K:

    q_c = mean over S_c of (softmax(z / tau) W)[K],   log q_c' = log(q_c / (sum q_c + 1e-10) + 1e-10)
    log p_c = mean over T_c of log_softmax(z[K] / tau)
    loss = tau^2 * sum over chunks of KL(p_c || q_c')

log p_c is not normalised again. It is the published cross-tokenizer loss of NeMo-RL (x_token), constants included.
"""

import torch

from xtoken_core.losses.chunks import Chunks
from xtoken_core.losses.common import ProjectionTensors
from xtoken_core.losses.measures import top1_agreement
from xtoken_core.losses.precision import log_softmax, upcast
from xtoken_core.losses.settings import KLSettings
from xtoken_core.losses.sums import LossSum, LossSums, Measure

_EPSILON = 1e-10


def p_kl(
    student_logits: torch.Tensor,
    teacher_logits: torch.Tensor,
    chunks: Chunks,
    projection: ProjectionTensors,
    columns: torch.Tensor,
    settings: KLSettings,
) -> LossSums:
    """See `losses.p_kl`."""
    student = _student_log_probs(student_logits, chunks, projection, columns, settings.temperature)
    teacher_rows = upcast(teacher_logits[chunks.teacher.row][:, columns])
    teacher = chunks.teacher.mean(log_softmax(teacher_rows / settings.temperature), len(chunks))
    counted = chunks.counted
    total = settings.divergence.of(teacher[counted], student[counted]).sum() * settings.temperature**2
    agreement = top1_agreement(teacher[chunks.usable], student[chunks.usable])
    return LossSums(LossSum(total, counted.sum()), {Measure.TOP1_AGREEMENT: agreement})


def _student_log_probs(
    logits: torch.Tensor, chunks: Chunks, projection: ProjectionTensors, columns: torch.Tensor, temperature: float
) -> torch.Tensor:
    """[C, K]: each position is projected, and what lies in the columns is averaged over a chunk and normalised."""
    probs = log_softmax(upcast(logits[chunks.student.row]) / temperature).exp()
    mean = chunks.student.mean(_projected(probs, projection, columns), len(chunks))
    return (mean / (mean.sum(dim=-1, keepdim=True) + _EPSILON) + _EPSILON).log()


def _projected(probs: torch.Tensor, projection: ProjectionTensors, columns: torch.Tensor) -> torch.Tensor:
    """`probs` [n, Vs] times the whole projection [Vs, Vt], of which the columns are kept, [n, K]."""
    student_id, slot = (projection.indices >= 0).nonzero(as_tuple=True)
    places = torch.stack([projection.indices[student_id, slot].long(), student_id])
    weights = projection.weights[student_id, slot].to(probs.dtype)
    size = (1 + max(int(ids.max()) for ids in (places[0], columns) if ids.numel()), probs.shape[1])
    transposed = torch.sparse_coo_tensor(places, weights, size, check_invariants=True).coalesce()
    return torch.sparse.mm(transposed, probs.T).T[:, columns]
