"""A web archive for :func:`~.fault_pacs.faulty_web`: it lists a series as it should, and retrieves as a test says."""

import json
from collections.abc import Callable

from pydicom import Dataset
from synthetic import part10

from .fault_pacs import HttpAnswer, HttpRequest


def body_of(datasets: list[Dataset], *, closed: bool = True) -> bytes:
    parts = [b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10(item) + b"\r\n" for item in datasets]
    return b"".join(parts) + (b"--b--\r\n" if closed else b"")


def web_pacs(
    datasets: list[Dataset], retrieve: Callable[[HttpRequest], HttpAnswer]
) -> Callable[[HttpRequest], HttpAnswer]:
    """Return a responder that answers searches as it should, and retrieves as the test says."""

    def respond(request: HttpRequest) -> HttpAnswer:
        wanted = {"/series": ("SeriesInstanceUID",), "/instances": ("SeriesInstanceUID", "SOPInstanceUID")}
        for ending, keywords in wanted.items():
            if request.path.endswith(ending):
                rows = {tuple(str(dataset[name].value) for name in keywords) for dataset in datasets}
                found = [
                    {
                        f"{dataset_tag(name)}": {"vr": "UI", "Value": [value]}
                        for name, value in zip(keywords, row, strict=True)
                    }
                    for row in sorted(rows)
                ]
                return HttpAnswer(200, json.dumps(found if "offset=0" in request.query else []).encode())
        return retrieve(request)

    return respond


def dataset_tag(keyword: str) -> str:
    return {"SeriesInstanceUID": "0020000E", "SOPInstanceUID": "00080018"}[keyword]


MULTIPART = 'multipart/related; type="application/dicom"; boundary=b'
