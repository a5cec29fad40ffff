"""QIDO-RS: a search page by page, whose answers are held against what was asked for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from ..errors import QueryError
from . import query
from .deadline import Deadline
from .http_session import HttpSession

_PAGE = 500
_MOST_LOOKED_THROUGH = 20_000


class DicomWebSearch:
    """One kind of object at one service.

    Parameters
    ----------
    path
        Below the service's URL.
    keys
        Keywords of the attributes to bring.
    uid_keyword
        The one that tells the objects apart.
    """

    def __init__(
        self, http: HttpSession, path: str, keys: Sequence[str], uid_keyword: str, peer: str, deadline: Deadline
    ) -> None:
        self._http = http
        self._path = path
        self._fields = [f"includefield={keyword}" for keyword in keys]
        self._uid_keyword = uid_keyword
        self._peer = peer
        self._deadline = deadline

    def run(self, filters: Mapping[str, str], limit: int | None) -> list[Mapping[str, str]]:
        """Return the distinct answers that fulfil the filters, at most ``limit``.

        The texts are sent as they are, percent-encoded. Where that finds nothing they are sent again with wildcards
        for all that was encoded: Orthanc's plugin 1.7 decodes nothing, and so finds nothing.

        Raises
        ------
        QueryError
            The search was refused, or its answer is no DICOM JSON.
        """
        sent = query.sendable(filters)
        exact = [f"{keyword}={quote(value, safe='*')}" for keyword, value in sent.items()]
        loose = {keyword: re.sub(r"[^A-Za-z0-9._-]+", "*", value) for keyword, value in sent.items()}
        loosened = [f"{keyword}={value}" for keyword, value in loose.items() if value != "*"]
        answers = self._matching(self._pages(exact, limit), filters, limit)
        if not answers and loosened != exact:
            pages = self._pages(loosened, limit)
            answers = self._matching(pages if loosened else self._not_all(pages), filters, limit)
        return query.distinct(answers, self._uid_keyword, self._peer)[:limit]

    @staticmethod
    def _matching(
        pages: Iterator[list[dict[str, str]]], filters: Mapping[str, str], limit: int | None
    ) -> list[Mapping[str, str]]:
        answers: list[Mapping[str, str]] = []
        for page in pages:
            answers += [answer for answer in page if query.matches(answer, filters)]
            if limit is not None and len(answers) >= limit:
                break
        return answers

    def _not_all(self, pages: Iterator[list[dict[str, str]]]) -> Iterator[list[dict[str, str]]]:
        """Yield pages of all that there is, until that is too much to look through."""
        count = 0
        for page in pages:
            yield page
            count += len(page)
            if count >= _MOST_LOOKED_THROUGH:
                raise QueryError(
                    "the service finds nothing for this text, but may not understand its special characters",
                    peer=self._peer,
                    advice="Search by another key too, such as the patient ID or the study date.",
                )

    def _pages(self, parameters: Sequence[str], limit: int | None) -> Iterator[list[dict[str, str]]]:
        """Yield what each page holds that no page before it held."""
        seen: set[str] = set()
        size = min(limit or _PAGE, _PAGE)  # the next ones are larger, since not all of the first were wanted
        offset = 0
        while True:
            query_text = "&".join([*parameters, *self._fields, f"limit={size}", f"offset={offset}"])
            page = self._http.get_json(self._path, query_text, self._deadline)
            new: dict[str, dict[str, str]] = {}
            for answer in map(self._attributes, page):
                if (uid := answer.get(self._uid_keyword, "")) not in seen:
                    new.setdefault(uid, answer)
            # Servers may cap the page below the limit asked for, or ignore the offset: only an empty or a
            # repeated page is the end.
            if not new:
                return
            yield list(new.values())
            seen |= new.keys()
            offset += len(page)
            size = _PAGE

    def _attributes(self, item: Mapping[str, object]) -> dict[str, str]:
        try:
            return query.json_attributes(item)
        except (ValueError, RecursionError):
            raise QueryError("the answer is not DICOM JSON", peer=self._peer) from None
