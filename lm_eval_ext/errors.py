"""What can go wrong, as one small tree. Every message is one line: what was given, where, what is allowed."""


class TTSError(Exception):
    """Base of every error raised on purpose by this package."""


class ArgumentError(TTSError, ValueError):
    """A model argument or generation argument that cannot be used."""


class RecipeError(TTSError, ValueError):
    """A pruning recipe that cannot be read or does not fit its base model."""


class ArchitectureError(TTSError):
    """A model whose layers cannot be dropped safely."""


class CheckpointError(TTSError):
    """A checkpoint whose tensors cannot be found or do not fit the model."""


class JournalError(TTSError):
    """A journal that cannot be opened, or a file that is none."""


class DatasetError(TTSError):
    """A benchmark whose dataset cannot be reached."""


class TaskError(TTSError, ValueError):
    """A task YAML that cannot be read or declares something unknown."""


class GradingError(TTSError):
    """Answers cannot be graded at all: what compares them does not work here."""


class ResultsError(TTSError, ValueError):
    """A results file that cannot be read, or that holds what no run could have given."""
