"""The promises that a store makes, and the errors that say which of them failed."""

from __future__ import annotations

from modelkeep.errors import ModelkeepError


class ArtifactCorrupt(ModelkeepError):
    """What lies under the name is not what was written there."""


class ArtifactMissing(ModelkeepError):
    """Nothing lies under the name."""


class ArtifactExists(ModelkeepError):
    """Something else already lies under the name; artifacts never change."""


class StoreUnavailable(ModelkeepError):
    """The store cannot be reached, read or written."""


class InvalidKey(ModelkeepError, ValueError):
    """A name that could lead out of the store, or that it cannot keep."""


class WriteConflict(ModelkeepError):
    """Somebody else changed the document since it was read."""


class PromotionConflict(ModelkeepError):
    """The champion is no longer the version that the challenger was compared with."""


class LeaseLost(ModelkeepError):
    """Another process has taken the step over; nothing more is written under the old number."""


class StepHeld(ModelkeepError):
    """Another process is still at work on the step."""


class UnknownFormat(ModelkeepError):
    """Another version of modelkeep has written something that this one does not know."""


class UnknownVersion(ModelkeepError):
    """The registry has no such version."""
