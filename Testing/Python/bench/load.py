"""``python -m bench.load``: ten associations at once, a thousand instances on each, into our receiver."""

import argparse
import re
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from AIDicomBridgeLib import DimseEndpoint, InstanceStore, connect
from peers import free_port, listens, running
from synthetic import body_phantom, make_series, save_series

from .transfer import pixel_digests


def load(folder: Path, associations: int, each: int) -> None:
    """Send many instances on several associations at once into our receiver, and check every one."""
    store_folder, port = folder / "archive", free_port()
    command = [sys.executable, "-m", "AIDicomBridgeLib.pacs.archive", str(store_folder), "--port", str(port)]
    batches = [
        save_series(make_series(body_phantom((each, 64, 64))), folder / f"batch-{n}") for n in range(associations)
    ]
    with running(command, log=folder / "receiver.log", ready=lambda: listens(port)) as process:
        endpoint = DimseEndpoint("", "127.0.0.1", port, "AIDB-ARCHIVE")
        before, started = resident(process.pid), time.perf_counter()
        with ThreadPoolExecutor(associations) as pool:
            reports = list(pool.map(lambda batch: connect(endpoint).store(batch), batches))
        seconds, after = time.perf_counter() - started, resident(process.pid)
    sent = pixel_digests([path for batch in batches for path in batch])
    with InstanceStore(store_folder) as store:
        kept = pixel_digests([item.path for item in store])
    print(f"{associations} x {each}: {seconds:.1f} s, {len(sent) / seconds:.0f} instances/s")
    print(f"reports complete: {all(report.complete for report in reports)}; equal by digest: {sent == kept}")
    print(f"memory of the receiver: {before / 2**20:.0f} MiB before, {after / 2**20:.0f} MiB after")


def resident(pid: int) -> int:
    """Return the resident bytes of a process (Linux)."""
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) * 1024  # type: ignore[index]


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__)
    parser.add_argument("--associations", type=int, default=10, help="at once (default 10)")
    parser.add_argument("--each", type=int, default=1000, help="instances on each (default 1000)")
    parser.add_argument("--folder", type=Path, help="where temporary files go, e.g. a RAM disk")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="aidicombridge-bench-", dir=arguments.folder) as name:
        load(Path(name), arguments.associations, arguments.each)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
