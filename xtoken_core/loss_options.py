"""What can be chosen by name in the losses; without torch, so that a config can be checked in no time."""

from enum import StrEnum

# The published defaults: columns of p_kl, probabilities outside the common tokens of gold and h_kl, and the weight from
# which a row of the projection is a common token of h_kl.
P_KL_COLUMNS, UNCOMMON_TOPK, H_KL_THRESHOLD = 8192, 8192, 0.6


class DivergenceKind(StrEnum):
    """forward: KL(teacher || student). reverse: KL(student || teacher). jsd: generalised Jensen-Shannon."""

    FORWARD = "forward"
    REVERSE = "reverse"
    JSD = "jsd"


class TeacherMode(StrEnum):
    """sum: the weighted sum of the teachers' losses. select_teacher: only that of the teacher with the lowest
    cross-entropy. averaged_logits: one loss against the mean of their logits, for teachers of the student's tokenizer.
    """

    SUM = "sum"
    SELECT_TEACHER = "select_teacher"
    AVERAGED_LOGITS = "averaged_logits"


class TeacherMetric(StrEnum):
    """What weights can be made of; `TeacherScores.score` has the larger for the better teacher."""

    CE = "ce"
    ENTROPY = "entropy"
    MAX_PROB = "max_prob"
