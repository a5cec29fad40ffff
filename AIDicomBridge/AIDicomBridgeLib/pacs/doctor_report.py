"""What the connection doctor found: one line per service, and what to write to the PACS administrator."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from ..errors import BridgeError, format_status

_T = TypeVar("_T")


class Verdict(Enum):
    """What became of one check."""

    WORKS = "works"
    FAILS = "does not work"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class DoctorLine:
    """One service of a PACS.

    Attributes
    ----------
    service
        ``"C-ECHO"``, ``"QIDO-RS"``, ...
    outcome
        Whether it works.
    cause
        What was seen where it works; the likely cause where it does not; why it was not tried.
    advice
        What the person can do; empty where nothing needs to be done.
    request
        The sentence for the PACS administrator; empty where the administrator need not act.
    """

    service: str
    outcome: Verdict
    cause: str = ""
    advice: str = ""
    request: str = ""


@dataclass(frozen=True)
class DoctorReport:
    """What works at one PACS and what does not.

    Attributes
    ----------
    endpoint
        The endpoint's address, without secrets.
    peer
        The endpoint's name.
    lines
        The services, in the order in which they were tried.
    administrator_text
        What to send to the PACS administrator: who we are (AE title, host, port), and what to change.
    """

    endpoint: str
    peer: str
    lines: tuple[DoctorLine, ...]
    administrator_text: str

    @property
    def healthy(self) -> bool:
        """True when nothing that was tried failed."""
        return all(line.outcome is not Verdict.FAILS for line in self.lines)

    @property
    def reachable(self) -> bool:
        """True when the host and port, which are tried first, take connections."""
        return self.lines[0].outcome is not Verdict.FAILS

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for ``--json``."""
        return {
            "endpoint": self.endpoint,
            "peer": self.peer,
            "healthy": self.healthy,
            "lines": [
                {
                    "service": line.service,
                    "outcome": line.outcome.value,
                    "cause": line.cause,
                    "advice": line.advice,
                    "request": line.request,
                }
                for line in self.lines
            ],
            "administrator_text": self.administrator_text,
        }


class Examination:
    """Collects lines while the checks run, each in the order in which it was made."""

    def __init__(self) -> None:
        self.lines: list[DoctorLine] = []

    def try_out(
        self, service: str, check: Callable[[], tuple[str, _T]], request: Callable[[BridgeError], str] | str = ""
    ) -> _T | None:
        """Run a check and enter its line; return what the check gives, or None if it failed.

        Parameters
        ----------
        check
            Returns what it saw, and a result; raises a BridgeError if the service does not work.
        request
            What the administrator can do about a failure; a function of the error, or one text for all.
        """
        try:
            seen, result = check()
        except BridgeError as error:
            asked = request if isinstance(request, str) else request(error)
            self.fail(service, described(error), error.advice or "", asked)
            return None
        self.lines.append(DoctorLine(service, Verdict.WORKS, seen))
        return result

    def fail(self, service: str, cause: str, advice: str = "", request: str = "") -> None:
        """Enter a service that does not work."""
        self.lines.append(DoctorLine(service, Verdict.FAILS, cause, advice, request))

    def skip(self, *services: str, because: str, advice: str = "") -> None:
        """Enter services that were not tried."""
        self.lines += [DoctorLine(service, Verdict.NOT_TRIED, because, advice) for service in services]


def described(error: BridgeError) -> str:
    """Return what failed with its status, without peer and advice, which stand elsewhere in the report."""
    return error.what if error.status is None else f"{error.what} (status {format_status(error.status)})"
