"""The base of every error that a user of modelkeep may meet.

An error says what happened and where, what was expected, what was received and what to do next.
Subclasses are named after the promise that failed and live where that promise is made.
"""

from __future__ import annotations


class ModelkeepError(Exception):
    """What happened, where, what was expected, what was received, and what to do next.

    The command line prints the message without a traceback and exits with `exit_code`:
    2 for a user's mistake or a fault of the surroundings, 1 for a gate that said no.
    """

    exit_code = 2

    def __init__(
        self,
        what: str,
        *,
        where: str = "",
        expected: str = "",
        received: str = "",
        next_step: str = "",
    ) -> None:
        self.what = what
        self.where = where
        self.expected = expected
        self.received = received
        self.next_step = next_step
        super().__init__(what)

    @property
    def details(self) -> dict[str, str]:
        """What is known of it, by name: what, and where, expected, received and next as far as they were told."""
        told = {"where": self.where, "expected": self.expected, "received": self.received, "next": self.next_step}
        return {"what": self.what, **{name: text for name, text in told.items() if text}}

    def __str__(self) -> str:
        what, *others = self.details.items()
        return "\n".join([what[1], *(f"  {name:<9}{text}" for name, text in others)])

    def __reduce__(self) -> tuple[object, ...]:
        # Prefect pickles exceptions into states; keyword-only arguments need this to survive it.
        return (_restore, (type(self), self.what, dict(self.__dict__)))


def _restore(kind: type[ModelkeepError], what: str, fields: dict[str, object]) -> ModelkeepError:
    error = kind(what)
    error.__dict__.update(fields)
    return error


class GateFailed(ModelkeepError):
    """A gate of the workflow said no: the data or the model is not good enough to go on."""

    exit_code = 1
