"""The demonstration's report: one HTML page with its pictures inside, to open, send or keep."""

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from .. import __version__
from ..job import JobReport
from ..mrml.pictures import Pictures
from ..pacs.records import SeriesRecord, StudyRecord

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: #1b2733; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; } .lead { color: #51606e; margin-top: .3rem; }
.pictures { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr)); gap: 1rem; }
figure { margin: 0; background: #000; border-radius: 6px; overflow: hidden; } img { width: 100%; display: block; }
figcaption { color: #cfd8e0; padding: .4rem .8rem; font-size: .9rem; }
table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .35rem .7rem; }
tr { border-bottom: 1px solid #dde4ea; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
code { font-size: .85rem; overflow-wrap: anywhere; }
.warning { background: #fff3d6; padding: .6rem 1rem; border-radius: 6px; }
"""


def write_report(
    path: Path,
    title: str,
    study: StudyRecord,
    held: list[SeriesRecord],
    done: JobReport,
    pictures: Pictures,
    stages: list[tuple[str, str, float]],
    files: dict[str, Path],
) -> Path:
    """Write the page and return its path.

    Parameters
    ----------
    title
        What was scanned.
    held
        The series that the archive lists in the study after delivery.
    stages
        (name, what, seconds) of every stage.
    files
        Where the archive keeps each instance, by SOP Instance UID.
    """
    body = [
        f"<h1>AIDicomBridge demonstration</h1><p class='lead'>{escape(title)}, segmented with {escape(done.model)}</p>",
        "<p class='warning'>For research and teaching, not for diagnostic use.</p>",
        "<div class='pictures'>",
        *(
            _figure(file, name)
            for file, name in (
                (pictures.axial, "Axial"),
                (pictures.coronal, "Coronal"),
                (pictures.sagittal, "Sagittal"),
                (pictures.three_d, "3D"),
            )
        ),
        f"</div><p class='lead'>Drawn by {escape(pictures.renderer)}. {escape(pictures.remark)}</p>",
        "<h2>Measurements</h2>",
        _table(
            ("Segment", "Volume (ml)", "Voxels"),
            [(m.segment.name, f"{m.volume_ml:,.1f}", f"{m.voxel_count:,}") for m in done.measurements],
            numbers=(1, 2),
        ),
        "<h2>Stages</h2>",
        _table(("Stage", "What", "Seconds"), [(n, what, f"{s:.2f}") for n, what, s in stages], numbers=(2,)),
        "<h2>The study in the archive</h2>",
        f"<p>Accession number {escape(study.accession_number)}, study <code>{escape(study.study_uid)}</code></p>",
        _table(
            ("Modality", "Number", "Description", "Instances", "Series UID"),
            [
                (s.modality, s.series_number, s.series_description, str(s.instance_count or ""), s.series_uid)
                for s in held
            ],
            numbers=(3,),
        ),
        "<h2>Results and the proof that they arrived</h2>",
        _table(
            ("Kind", "Series UID", "Proof", "File"),
            _result_rows(done, files),
        ),
        f"<h2>Files</h2><p>The archive's instances: <code>{escape(str((path.parent / 'archive').resolve()))}</code><br>"
        f"The pictures: <code>{escape(str(pictures.axial.parent.resolve()))}</code></p>",
        f"<p class='lead'>AIDicomBridge {escape(__version__)}</p>",
    ]
    path.write_text(
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>AIDicomBridge demonstration</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n",
        encoding="utf-8",
    )
    return path


def _result_rows(done: JobReport, files: dict[str, Path]) -> list[tuple[str, ...]]:
    """Return a row per series of results: kind, series, how many were proven how, and the file if it is one."""
    proofs = {receipt.sop_instance_uid: receipt.proof for d in done.deliveries for receipt in d.receipts}
    by_series: dict[tuple[str, str], list[str]] = {}
    for result in done.results:
        key = (result.kind.upper(), str(result.dataset.SeriesInstanceUID))
        by_series.setdefault(key, []).append(str(result.dataset.SOPInstanceUID))
    rows: list[tuple[str, ...]] = []
    for (kind, series_uid), uids in by_series.items():
        compared = sum(proofs.get(uid) == "compared" for uid in uids)
        file = str(files[uids[0]].resolve()) if len(uids) == 1 and uids[0] in files else f"{len(uids)} files"
        rows.append((kind, series_uid, f"{compared} of {len(uids)} fetched back and compared", file))
    return rows


def _figure(file: Path, name: str) -> str:
    content = base64.b64encode(file.read_bytes()).decode("ascii")
    return (
        f"<figure><img alt='{name} view' src='data:image/png;base64,{content}'><figcaption>{name}</figcaption></figure>"
    )


def _table(columns: tuple[str, ...], rows: Sequence[tuple[str, ...]], numbers: tuple[int, ...] = ()) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    lines = []
    for row in rows:
        cells = (
            f"<td{' class=number' if index in numbers else ''}>"
            f"{f'<code>{escape(cell)}</code>' if 'UID' in columns[index] else escape(cell)}</td>"
            for index, cell in enumerate(row)
        )
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"
