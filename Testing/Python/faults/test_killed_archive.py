"""The archive dies in the middle of a send: the result is kept, a retry delivers it, nothing is doubled."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from AIDicomBridgeLib import Outbox, parse_endpoint
from AIDicomBridgeLib.delivery.deliver import deliver
from AIDicomBridgeLib.progress import Progress
from AIDicomBridgeLib.series.instance_store import InstanceStore
from synthetic import body_phantom, make_series
from typer.testing import CliRunner


def start_archive(folder: Path, port: int = 0) -> tuple[subprocess.Popen[str], int]:
    """Start the built-in archive as a process of its own and return it with its port once it listens."""
    command = [sys.executable, "-m", "AIDicomBridgeLib.pacs.archive", str(folder), "--port", str(port)]
    process = subprocess.Popen([*command, "--ae-title", "ARCHIVE"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        pytest.fail(f"the archive ended with status {process.wait(10)}")
    return process, int(line.split()[-1])


def test_archive_killed_mid_send_then_outbox_retry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIDICOMBRIDGE_HOME", str(tmp_path / "home"))
    results = make_series(body_phantom((12, 64, 64)))
    outbox = Outbox(tmp_path / "home" / "outbox")
    archive, port = start_archive(tmp_path / "archive")
    try:
        endpoint = parse_endpoint(f"dimse://ARCHIVE@127.0.0.1:{port}")
        outbox.put(results, endpoint.address)

        def kill_after_three(event: Progress) -> None:
            if event.stage == "store" and event.completed == 3:
                archive.kill()
                archive.wait(30)

        report = deliver(outbox, endpoint, progress=kill_after_three)
    finally:
        archive.kill()
        archive.wait(30)

    assert not report.complete
    assert len(outbox.deliveries()) == 12, "nothing was proven, so nothing may leave the outbox"
    assert all(delivery.path.exists() for delivery in outbox.deliveries())

    archive, _ = start_archive(tmp_path / "archive", port)
    try:
        from AIDicomBridgeLib.cli.main import app

        answer = CliRunner().invoke(app, ["outbox", "retry", "--json"])
    finally:
        archive.terminate()
        archive.wait(30)

    assert answer.exit_code == 0, answer.output
    (delivered,) = json.loads(answer.stdout)["deliveries"]
    assert {a["sop_instance_uid"] for a in delivered["arrived"]} == {ds.SOPInstanceUID for ds in results}
    assert {a["proof"] for a in delivered["arrived"]} == {"compared"}
    assert outbox.deliveries() == []
    held = [instance.sop_instance_uid for instance in InstanceStore(tmp_path / "archive").instances()]
    assert sorted(held) == sorted(ds.SOPInstanceUID for ds in results)
