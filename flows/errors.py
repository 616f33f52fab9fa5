"""The errors that end a command with one clear message instead of a traceback."""

from storage.errors import ArtifactError, StorageError
from xtoken_core.models import ModelError


class CorpusError(ValueError):
    """The corpus cannot be read as asked; the message names the file and the remedy."""


def is_users_to_fix(error: BaseException) -> bool:
    """Whether trying again cannot help: the cause is in the input or the machine, and the message says what to do."""
    return isinstance(error, users_errors())


def users_errors() -> tuple[type[Exception], ...]:
    """The errors that are so."""
    from flows.config import ConfigError
    from flows.inspect import InspectError
    from flows.quickstart.teacher import QuickstartError
    from flows.server import ServerError
    from trainer.run import TrainerError
    from xtoken_core.chats import ChatError
    from xtoken_core.vocabulary import VocabularyError

    return (
        ArtifactError,
        ChatError,
        ConfigError,
        CorpusError,
        InspectError,
        ModelError,
        QuickstartError,
        ServerError,
        StorageError,
        TrainerError,
        VocabularyError,
    )
