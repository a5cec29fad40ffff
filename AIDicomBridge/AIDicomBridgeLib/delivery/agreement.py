"""Asking a destination which encoding of a segmentation it takes, before one is made."""

from dataclasses import replace

from ..errors import AssociationError, UnreachableError
from ..pacs.association import NoContextAcceptedError, associate
from ..pacs.dimse import EXPLICIT_LITTLE, storage_contexts
from ..pacs.endpoint import DimseEndpoint, Endpoint
from ..results.profiles import DestinationProfile, find_profile
from ..results.segmentation import LABELMAP_STORAGE

_COMPRESSED = {"RLE": "1.2.840.10008.1.2.5", "JPEG-LS": "1.2.840.10008.1.2.4.80"}


def agree_on_profile(endpoint: Endpoint | None, profile: DestinationProfile | str | None = None) -> DestinationProfile:
    """Return how results for an endpoint are written: ``profile``, else the endpoint's own, with ``AUTO`` decided.

    A DIMSE peer is asked: it accepts a presentation context for LABELMAP, and for its compression, or it does not.
    BINARY is the answer wherever asking gives none: over DICOMweb, which has no such question, without an endpoint,
    and while the peer does not answer, as its results can wait in the outbox.

    Raises
    ------
    EncodingError
        There is no profile of that name.
    """
    chosen = find_profile(profile or (endpoint.profile if endpoint is not None else None))
    if chosen.encoding != "AUTO":
        return chosen
    binary = replace(chosen, encoding="BINARY", compression=None)
    if not isinstance(endpoint, DimseEndpoint):
        return binary
    compressed = _COMPRESSED.get(chosen.compression or "", EXPLICIT_LITTLE)
    try:
        with associate(endpoint, storage_contexts([LABELMAP_STORAGE], {compressed, EXPLICIT_LITTLE})) as association:
            accepted = {str(context.transfer_syntax[0]) for context in association.accepted_contexts}
    except (NoContextAcceptedError, UnreachableError, AssociationError):
        return binary
    return replace(chosen, encoding="LABELMAP", compression=chosen.compression if compressed in accepted else None)
