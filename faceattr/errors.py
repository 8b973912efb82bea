"""The errors a user can meet. Their text says what was expected, what was found, where, and what to do."""


class FaceattrError(Exception):
    """Base of all errors that are shown as one message, without a traceback."""

    exit_code = 1


class ConfigError(FaceattrError):
    """The command cannot start as given: a flag, a file or a combination of them is wrong."""

    exit_code = 2


class RunError(FaceattrError):
    """A run stopped; what is committed stays, and the text says how to go on."""


class DivergedError(RunError):
    """Training ended in numbers that are not finite, on every worker; trying again would end the same way."""


class StorageError(FaceattrError):
    """The store did not answer, or refused, for longer than the deadline. Never a verdict about one image."""


class ModelError(FaceattrError):
    """A checkpoint cannot be loaded or gives wrong numbers."""

    exit_code = 2


class ImageError(Exception):
    """One image cannot be used, for a reason that lies in the image and will not pass.

    Attributes:
        reason: one word of `faceattr.data.images.REASONS`, stored in the row's `status`.
        detail: what was found, stored in the row's `error`.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type["ImageError"], tuple[str, str]]:
        return type(self), (self.reason, self.detail)
