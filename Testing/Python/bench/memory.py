"""``python -m bench.memory``, part of ``make bench``: the memory that a transfer takes while one large image passes.

Each way runs in a process of its own, whose peak is held against what it had before the image came. The file has a hole
where its pixels would be; what arrives is compared with it by digest.
"""

import argparse
import hashlib
import json
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from shutil import which

from AIDicomBridgeLib import InstanceStore
from peers import free_port, listens, require_program, running
from peers.dcmtk import dcmqrscp
from pydicom import Dataset, dcmwrite
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
_MOST_IN_DCMTK = 1000  # MB of a study in its archive
# Gives the peak of the memory that one call took beyond what the process had before, with everything imported.
_CLIENT = """
import sys
from importlib import import_module
from pathlib import Path
for name in ("pynetdicom", "requests", "pydicom", "AIDicomBridgeLib.pacs.doctor_samples"):
    import_module(name)
from AIDicomBridgeLib import InstanceStore, connect, parse_endpoint
def kilobytes(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])
what, address, folder, study_uid, path = sys.argv[1:]
with InstanceStore(folder) as store, connect(parse_endpoint(address)) as client:
    client.verify()
    before = kilobytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    report = client.retrieve(study_uid, into=store) if what == "retrieve" else client.store([path])
    assert report.complete, report.failed
    print(kilobytes("VmHWM") - before)
"""
# A DICOMweb service that holds one file, and reads what is sent to it without keeping it.
_WEB = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
path, uids = sys.argv[2], json.loads(sys.argv[3])
class Service(BaseHTTPRequestHandler):
    def log_message(self, *arguments):
        pass
    def send(self, body, kind="application/dicom+json"):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        where, _, query = self.path.partition("?")
        if "limit=" in query:
            listed = {tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items()}
            self.send(json.dumps([listed] if "offset=0" in query or where == "/studies" else []).encode())
            return
        self.send_response(200)
        self.send_header("Content-Type", 'multipart/related; type="application/dicom"; boundary=b')
        self.end_headers()
        self.wfile.write(b"--b\\r\\nContent-Type: application/dicom\\r\\n\\r\\n")
        with open(path, "rb") as file:
            while piece := file.read(2**20):
                self.wfile.write(piece)
        self.wfile.write(b"\\r\\n--b--")
    def do_POST(self):
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 2**20)))
        self.send(json.dumps({"00081199": {"vr": "SQ", "Value": [
            {tag: {"vr": "UI", "Value": [uids[of]]} for tag, of in (("00081150", "00080016"), ("00081155", "00080018"))}
        ]}}).encode())
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Service).serve_forever()
"""


def write_image(path: Path, megabytes: int) -> Dataset:
    """Write a multi-frame image whose pixels are a hole in the file, and return its header."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = _ENHANCED_CT, generate_uid()
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = generate_uid(), generate_uid()
    dataset.PatientName, dataset.PatientID, dataset.Modality = "Large", "BENCH", "CT"
    dataset.StudyDate = dataset.StudyTime = dataset.AccessionNumber = dataset.StudyID = ""
    dataset.SeriesNumber = dataset.InstanceNumber = 1
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = megabytes // 2, 1024, 1024
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    dataset.ensure_file_meta()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    length = megabytes // 2 * 2 * 2**20
    with path.open("wb") as file:
        file.write(buffer.getvalue() + struct.pack("<HH2sHL", 0x7FE0, 0x0010, b"OW", 0, length))
        file.truncate(file.tell() + length)
    return dataset


def peak_of_client(what: str, address: str, folder: Path, image: Dataset, path: Path) -> float:
    """Return the MiB that a retrieve or store took, in a process of its own."""
    command = [sys.executable, "-c", _CLIENT, what, address, str(folder), image.StudyInstanceUID, str(path)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout) / 1024


def check(folder: Path, path: Path, image: Dataset) -> None:
    """Raise unless a store holds the same data set; then remove it."""
    with InstanceStore(folder) as store:
        stored = store.get(image.SOPInstanceUID)
        if stored is None or dataset_digest(stored.path) != dataset_digest(path):
            raise RuntimeError(f"what arrived in {folder} is not what was sent")
        stored.path.unlink()


def dataset_digest(path: Path) -> str:
    """Return the digest of a file from its data set on."""
    with path.open("rb") as file:
        head = file.read(4096)
        file.seek(head.index(b"\x08\x00\x16\x00UI"))
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def archive(folder: Path) -> Iterator[tuple[int, str]]:
    """Run our receiver; gives its process and its address."""
    port = free_port()
    command = [sys.executable, "-m", "AIDicomBridgeLib.pacs.archive", str(folder), "--port", str(port)]
    with running(command, log=folder.with_suffix(".log"), ready=lambda: listens(port)) as process:
        yield process.pid, f"dimse://AIDB-ARCHIVE@127.0.0.1:{port}"


@contextmanager
def web(folder: Path, path: Path, image: Dataset) -> Iterator[str]:
    """Run the DICOMweb service; gives its URL."""
    port = free_port()
    uids = {
        "0020000D": image.StudyInstanceUID,
        "0020000E": image.SeriesInstanceUID,
        "00080018": image.SOPInstanceUID,
        "00080016": image.SOPClassUID,
    }
    command = [sys.executable, "-c", _WEB, str(port), str(path), json.dumps(uids)]
    with running(command, log=folder / "web.log", ready=lambda: listens(port)):
        yield f"http://127.0.0.1:{port}"


def kilobytes(pid: int, name: str) -> int:
    """Return a line of a process's status (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1])


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=2048, help="of the image (default 2048)")
    parser.add_argument("--folder", type=Path, help="where temporary files go, e.g. a RAM disk")
    arguments = parser.parse_args()
    lacking = [name for name in ("dcmqrscp", "dcmqridx") if not which(name)]
    if lacking or not Path("/proc/self/clear_refs").exists():
        print(f"Left out: memory, since this is not Linux or these programs are not installed: {', '.join(lacking)}")
        return 0
    with tempfile.TemporaryDirectory(prefix="aidicombridge-bench-", dir=arguments.folder) as name:
        folder = Path(name)
        path, small = folder / "image.dcm", folder / "small.dcm"
        image = write_image(path, arguments.megabytes)
        write_image(small, 2)
        print(f"one image of {path.stat().st_size / 2**20:.0f} MiB; peak of memory beyond what the process had before:")

        with archive(folder / "archive") as (pid, address):
            peak_of_client("store", address, folder / "sender", image, small)  # what is imported on demand
            before = kilobytes(pid, "VmRSS")
            Path(f"/proc/{pid}/clear_refs").write_text("5")
            sent = peak_of_client("store", address, folder / "sender", image, path)
            print(f"  C-STORE into our receiver  {(kilobytes(pid, 'VmHWM') - before) / 1024:6.1f} MiB", flush=True)
        print(f"  C-STORE by our sender      {sent:6.1f} MiB")
        check(folder / "archive", path, image)

        smaller, megabytes = folder / "smaller.dcm", min(arguments.megabytes, _MOST_IN_DCMTK)
        other = write_image(smaller, megabytes)
        with dcmqrscp(folder / "dcmqrscp") as peer:
            area = folder / "dcmqrscp" / "database"
            subprocess.run([require_program("dcmqridx"), str(area), str(smaller)], check=True, capture_output=True)
            address = f"dimse://{peer.ae_title}@127.0.0.1:{peer.port}"
            taken = peak_of_client("retrieve", address, folder / "get", other, smaller)
        print(f"  C-GET of {megabytes:4} MiB          {taken:6.1f} MiB", flush=True)
        check(folder / "get", smaller, other)

        with web(folder, path, image) as address:
            taken = peak_of_client("retrieve", address, folder / "wado", image, path)
            print(f"  WADO-RS                    {taken:6.1f} MiB", flush=True)
            check(folder / "wado", path, image)
            sent = peak_of_client("store", address, folder / "stow", image, path)
            print(f"  STOW-RS                    {sent:6.1f} MiB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
