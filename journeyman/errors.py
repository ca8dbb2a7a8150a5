"""The errors that cross boundaries. A `UserError` becomes one message and exit code 2."""

from difflib import get_close_matches


class UserError(ValueError):
    """The input is wrong and the user can mend it.

    Args:
        message: what is wrong.
        place: where: a file and line, a config key, a path.
        remedy: what to do about it.
    """

    def __init__(self, message: str, *, place: str = "", remedy: str = "") -> None:
        self.message, self.place, self.remedy = message, place, remedy
        super().__init__(message, place, remedy)  # all positional, so that it pickles across processes

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}" if self.place else self.message
        return f"{text}\n  remedy: {self.remedy}" if self.remedy else text

    def __reduce__(self) -> tuple:
        return (_rebuild, (type(self), self.message, self.place, self.remedy))


def _rebuild(kind: type["UserError"], message: str, place: str, remedy: str) -> "UserError":
    return kind(message, place=place, remedy=remedy)


class ConfigError(UserError):
    """A key or value of pipelines.yaml, an override or a parameter is wrong."""


class DataError(UserError):
    """A file of problems or trajectories is missing or broken."""


class ArtifactError(UserError):
    """An artifact is missing, half-written or damaged."""


class PausedError(UserError):
    """A monitor paused a stage; started again, it goes on from its last checkpoint."""


class InfrastructureError(RuntimeError):
    """A server, an actor or a machine failed; trying again may help."""


class WeightSyncError(RuntimeError):
    """After a weight sync the sampler's log-probabilities differ from the learner's."""


def nearest(word: str, choices: list[str]) -> str:
    """A remedy: the choice that was likely meant, else all of them."""
    if not choices:
        return "there are none"
    near = get_close_matches(word, choices, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else "one of " + ", ".join(f"`{choice}`" for choice in choices)
