"""The package's exceptions. Every message is one line: what was given, where, and what is allowed."""


class TTSError(Exception):
    """Base of every error raised on purpose by this package."""


class ArgumentError(TTSError, ValueError):
    """A model argument or generation argument is invalid."""


class RecipeError(TTSError, ValueError):
    """A pruning recipe cannot be read or does not fit its base model."""


class ArchitectureError(TTSError):
    """A model's layers cannot be dropped safely."""


class CheckpointError(TTSError):
    """A checkpoint's tensors cannot be found or do not fit the model."""


class JournalError(TTSError):
    """A journal cannot be opened, or the file is not a journal."""


class EngineError(TTSError):
    """Decoding cannot go on: a replica's model has failed, or no replica is left."""


class DatasetError(TTSError):
    """A benchmark's dataset cannot be reached."""


class TaskError(TTSError, ValueError):
    """A task YAML cannot be read or declares something unknown."""


class GradingError(TTSError):
    """Answers cannot be graded at all, because the comparison does not work on this machine."""


class ResultsError(TTSError, ValueError):
    """A results file cannot be read, or contains values that no run could have produced."""
