"""The named failures of AIDicomBridge.

Every failure is an exception below :class:`BridgeError`. Its text is one sentence that says what failed, on which
object, at which peer, with which status, and what to do; it never holds a patient's name, ID or birth date, nor a
secret. A person's cancel is not an error: :class:`JobCancelled` stands beside the tree.
"""


class BridgeError(Exception):
    """Base of every error that AIDicomBridge raises on purpose.

    Parameters
    ----------
    what
        What failed, as a clause without its full stop: ``"the association was rejected"``.
    uid
        Study, series or SOP Instance UID of the object concerned.
    peer
        Name or address of the endpoint concerned, without credentials.
    status
        The status that the peer gave: a DIMSE status (int, shown as ``0xA700``) or a text such as ``"HTTP 409"``.
    advice
        What the person can do about it, as a sentence.
    """

    def __init__(
        self,
        what: str,
        *,
        uid: str | None = None,
        peer: str | None = None,
        status: int | str | None = None,
        advice: str | None = None,
    ) -> None:
        self.what = what
        self.uid = uid
        self.peer = peer
        self.status = status
        self.advice = advice
        super().__init__(what)

    def __str__(self) -> str:
        details = [
            f"at {self.peer}" if self.peer else "",
            f"on {self.uid}" if self.uid else "",
            f"status {format_status(self.status)}" if self.status is not None else "",
        ]
        shown = ", ".join(detail for detail in details if detail)
        sentence = f"{self.what} ({shown})" if shown else self.what
        sentence = _capitalised(sentence.rstrip(".")) + "."
        return f"{sentence} {self.advice}" if self.advice else sentence

    def to_dict(self) -> dict[str, str | None]:
        """Return the error as plain values for ``--json``: kind, message, uid, peer, status, advice."""
        return {
            "kind": type(self).__name__,
            "message": str(self),
            "uid": self.uid,
            "peer": self.peer,
            "status": None if self.status is None else format_status(self.status),
            "advice": self.advice,
        }


def _capitalised(sentence: str) -> str:
    """Return the sentence with a capital, unless it begins with a file's name or an option, which stay as they are."""
    first = sentence.split(maxsplit=1)[0].rstrip(".:,;") if sentence else ""
    return sentence if any(mark in first for mark in "./\\_") else sentence[:1].upper() + sentence[1:]


def format_status(status: int | str) -> str:
    """Return a DIMSE status as DICOM writes it (``0xA700``), any other status unchanged."""
    return f"0x{status:04X}" if isinstance(status, int) else status


# Endpoints and the network
class EndpointError(BridgeError):
    """An endpoint's address, AE title or credentials cannot be used as given."""


class UnreachableError(BridgeError):
    """The peer does not answer at that host and port, or its TLS certificate is not trusted."""


class AssociationError(BridgeError):
    """The peer rejected or aborted the association, or accepts none of the presentation contexts needed."""


class NoContextAcceptedError(AssociationError):
    """The association was accepted, but not one of its presentation contexts."""


class QueryError(BridgeError):
    """A C-FIND or QIDO-RS request failed."""


class NotFoundError(BridgeError):
    """The query worked and nothing matches."""


class RetrieveError(BridgeError):
    """A C-GET, C-MOVE or WADO-RS request failed as a whole."""


class NotOfferedError(RetrieveError):
    """The peer holds the object but does not offer to hand it out to us; another try would change nothing."""


class IncompleteError(BridgeError):
    """Some instances that the peer lists did not arrive, or did not arrive at the peer."""


class DeadlineError(BridgeError):
    """A whole transfer took longer than the endpoint allows."""


class StoreError(BridgeError):
    """A C-STORE or STOW-RS request failed as a whole."""


# Files, series and volumes
class BadDicomError(BridgeError):
    """A file or received data set is not readable DICOM, or breaks a rule that later steps rely on."""


class ConflictError(BridgeError):
    """Two objects with one SOP Instance UID differ, or a series mixes patients, studies or frames of reference."""


class GeometryError(BridgeError):
    """The instances do not form a regular volume."""


class PixelError(BridgeError):
    """Pixel data cannot be decoded into voxels."""


class FolderError(BridgeError):
    """A folder cannot be made, read or written to, or what keeps order in it cannot be used."""


class DiskSpaceError(BridgeError):
    """Writing would fill the disk or exceed the folder's quota; nothing half-written was left."""


# Models and inference
class ModelError(BridgeError):
    """A model or its card is unknown, invalid, or does not fit the volume."""


class BodyPartError(ModelError):
    """The series' header names a body part that is not on the model's card; a person may know better."""


class MemoryLimitError(ModelError):
    """A model needs more memory than there is; refused before the run, or given up after every step down."""


class WeightsError(BridgeError):
    """Weights are missing, cannot be fetched, have the wrong size or SHA-256, or do not fit the network."""


class ConsentError(WeightsError):
    """A model file is a program, and nobody has agreed yet to run it."""


class DependencyError(BridgeError):
    """An optional package or system library that this step needs is not installed."""


# Results and delivery
class EncodingError(BridgeError):
    """A result cannot be written as a faithful DICOM object."""


class ConformanceError(BridgeError):
    """A result failed its own checks and was therefore not delivered."""


class DeliveryError(BridgeError):
    """A result could not be delivered or verified; it stays in the outbox."""


# The process that works for the panel
class WorkerError(BridgeError):
    """The background process could not be started, ended before its answer, or failed in an unforeseen way."""


class JobCancelled(Exception):  # noqa: N818 - it is no error
    """The person cancelled; not an error. What was complete before the cancel is kept, nothing is half-written."""
