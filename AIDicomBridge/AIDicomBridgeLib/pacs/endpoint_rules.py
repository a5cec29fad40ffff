"""The rules that every part of an endpoint's address keeps, each with an error that says how to write it."""

import ipaddress
from dataclasses import fields
from typing import TYPE_CHECKING

from ..errors import EncodingError, EndpointError
from ..results.profiles import find_profile

if TYPE_CHECKING:
    from .endpoint import Endpoint

FORMS = "Write dimse://AETITLE@host:port, or https://host/dicom-web."


def port_number(text: str, what: str) -> int:
    """Return a whole number that an address gives as text."""
    if not (text.isascii() and text.isdigit() and len(text) <= 5):
        raise EndpointError(f"{what} is no number from 0 to 65535", advice=FORMS)
    return int(text)


def number_of(text: str, name: str) -> float:
    """Return a number that an address gives as text."""
    try:
        return float(text)
    except ValueError:
        raise EndpointError(f"the option {name} is no number") from None


def checked_host(host: str) -> str:
    """Return a host name or IP address without brackets, in small letters; the resolver can take every label of it."""
    cleaned = host.strip().strip("[]").lower()
    if not cleaned or not all(character.isalnum() or character in "-_.:" for character in cleaned):
        raise EndpointError("the host is empty or holds characters that no host name has", advice=FORMS)
    try:
        if ":" in cleaned:
            ipaddress.IPv6Address(cleaned)
        else:
            cleaned.encode("idna")
    except ValueError:  # UnicodeError is one
        raise EndpointError("the host is neither a host name nor an IP address", advice=FORMS) from None
    return cleaned


def bracketed(host: str) -> str:
    """Return the host as it stands in an address: an IPv6 address in brackets."""
    return f"[{host}]" if ":" in host else host


def checked_ae_title(text: str) -> str:
    """Return an AE title without its padding (PS3.5 6.2: at most 16 characters, no backslash, no control codes)."""
    cleaned = text.strip(" ")
    if not 1 <= len(cleaned) <= 16 or not cleaned.isascii() or not cleaned.isprintable() or "\\" in cleaned:
        raise EndpointError(
            f"the AE title {text!r} cannot be used",
            advice="An AE title has 1 to 16 ASCII characters and no backslash; capitals matter.",
        )
    return cleaned


def check_port(port: int, *, lowest: int) -> None:
    """Refuse what is no TCP port."""
    if isinstance(port, bool) or not isinstance(port, int) or not lowest <= port <= 65535:
        raise EndpointError(f"the port {port} is not between {lowest} and 65535", advice=FORMS)


def check_profile(endpoint: "Endpoint") -> None:
    """Refuse the name of a profile that there is not."""
    try:
        find_profile(endpoint.profile)
    except EncodingError as error:
        raise EndpointError(error.what, peer=endpoint.name, advice=error.advice) from None


def check_parallel(number: int, what: str, peer: str) -> None:
    """Refuse more than a PACS can be asked to bear."""
    if not 1 <= number <= 16:
        raise EndpointError(f"the option {what} is a number from 1 to 16", peer=peer)


def check_timeouts(endpoint: "Endpoint") -> None:
    """Refuse deadlines that are none."""
    for item in fields(endpoint):
        if item.name.endswith("timeout_s") and not 0 < getattr(endpoint, item.name) < 1e6:
            raise EndpointError(f"{item.name} must be a number of seconds above 0", peer=endpoint.name)


def is_loopback(host: str) -> bool:
    """Return True if nothing sent to the host leaves this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
