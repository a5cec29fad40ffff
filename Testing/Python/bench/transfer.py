"""``python -m bench.transfer``, part of ``make bench``: receiving and sending a CT on loopback, beside others.

Every way is measured in turn within each pass, so that the other load of the machine falls on all; the best pass
counts. ``TCP_NODELAY=1`` is set for DCMTK on both ends: without it DCMTK waits 40 ms per instance. The clients of DCMTK
are programs, whose start is counted; ours run in the process of the benchmark.
What arrived is compared with what was sent. Our receiver also checks that each instance is whole and makes it safe on
disk, and our retrieves ask the peer first what there is: both shares are printed.
The status is 1 when what arrived is not what was sent, or a target is missed by more than three tenths: so much is
left to the machine's other load.
"""

import argparse
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from shutil import which
from typing import Any

from AIDicomBridgeLib import DicomWebEndpoint, DimseEndpoint, InstanceStore, connect
from peers import free_port, listens, running
from peers.dcmtk import dcmqrscp, run_client, storescp
from peers.orthanc import Orthanc, orthanc
from pydicom import Dataset, dcmread

from .study import write_ct

_ORDINARY_SCP = """
import sys
from pathlib import Path
from pynetdicom import AE, evt, AllStoragePresentationContexts
def save(event):
    dataset = event.dataset
    dataset.file_meta = event.file_meta
    dataset.save_as(Path(sys.argv[1]) / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
    return 0
entity = AE("ORDINARY")
entity.supported_contexts = AllStoragePresentationContexts
entity.start_server(("127.0.0.1", int(sys.argv[2])), evt_handlers=[(evt.EVT_C_STORE, save)])
"""
# stage, way -> most of that way's wall seconds that ours may take
TARGETS = {
    ("receive C-STORE", "DCMTK"): 1.5,
    ("receive C-STORE", "pynetdicom"): 1 / 5,
    ("send C-STORE", "DCMTK"): 1.2,
    ("send C-STORE", "pynetdicom"): 1 / 5,
    ("C-GET", "DCMTK"): 2.5,
    ("C-GET", "pynetdicom"): 1 / 3,
    ("WADO-RS", "retrieve_series"): 0.3,
    ("WADO-RS", "iter_series"): 0.8,
    ("STOW-RS", "store_instances"): 0.75,
}
LEEWAY = 1.3
Times = dict[str, dict[str, tuple[float, float]]]  # stage -> way -> wall and CPU seconds


class Bench:
    """The peers, the CT, and the ways."""

    def __init__(self, folder: Path, paths: list[Path], pacs: Orthanc, dcmtk: DimseEndpoint) -> None:
        self.folder = folder
        self.paths = paths
        self.pacs = pacs
        self.dcmtk = dcmtk
        first = dcmread(paths[0], stop_before_pixels=True)
        self.study_uid, self.series_uid = str(first.StudyInstanceUID), str(first.SeriesInstanceUID)
        self.digests = pixel_digests(paths)
        self._count = 0

    def fresh(self) -> Path:
        """Return a new empty folder."""
        self._count += 1
        path = self.folder / f"run-{self._count}"
        path.mkdir()
        return path

    def check(self, folder: Path) -> None:
        """Raise unless the folder holds every instance with its own pixels; then remove it."""
        found = pixel_digests([path for path in folder.rglob("*") if path.is_file() and is_dicom(path)])
        if found != self.digests:
            raise RuntimeError(f"what arrived in {folder} is not what was sent ({len(found)} of {len(self.digests)})")
        shutil.rmtree(folder)

    # C-STORE into a receiver: the sender is DCMTK's, in a process of its own

    def into_us(self) -> tuple[float, float]:
        folder = self.fresh()
        command = [sys.executable, "-m", "AIDicomBridgeLib.pacs.archive", str(folder), "--ae-title", "OURS"]
        return self._into(command, folder, "OURS")

    def into_pynetdicom(self) -> tuple[float, float]:
        return self._into([sys.executable, "-c", _ORDINARY_SCP, str(folder := self.fresh())], folder, "ORDINARY")

    def into_dcmtk(self) -> tuple[float, float]:
        folder = self.fresh()
        return self._into(["/usr/bin/storescp", "+B", "+xa", "-aet", "DCMTK", "-od", str(folder)], folder, "DCMTK")

    def _into(self, command: list[str], folder: Path, ae_title: str) -> tuple[float, float]:
        port = free_port()
        command += ["--port", str(port)] if "AIDicomBridgeLib.pacs.archive" in command else [str(port)]
        with running(command, log=self.folder / "receiver.log", ready=lambda: listens(port)) as process:
            before, cpu = time.perf_counter(), cpu_of(process.pid)
            done = run_client(
                "storescu", "-aet", "BENCH", "-aec", ae_title, "127.0.0.1", str(port), "+sd", str(self.paths[0].parent)
            )
            seconds = time.perf_counter() - before, cpu_of(process.pid) - cpu
            if done.returncode:
                raise RuntimeError(done.stderr)
        self.check(folder)
        return seconds

    # Sending to DCMTK's receiver

    def send_by_us(self) -> tuple[float, float]:
        return self._to_dcmtk(lambda peer: self._complete(connect(peer).store(self.paths)))

    def send_by_pynetdicom(self) -> tuple[float, float]:
        return self._to_dcmtk(self._send_c_store)

    def send_by_dcmtk(self) -> tuple[float, float]:
        return self._to_dcmtk(
            lambda peer: run_client(
                *("storescu", "-aec", peer.ae_title, peer.host, str(peer.port), "+sd", str(self.paths[0].parent))
            )
        )

    def _to_dcmtk(self, send: Callable[[DimseEndpoint], Any]) -> tuple[float, float]:
        folder = self.fresh()
        with storescp(folder) as peer:
            seconds = timed(lambda: send(peer))
        self.check(folder)
        return seconds

    def _send_c_store(self, peer: DimseEndpoint) -> None:
        from pynetdicom import AE
        from pynetdicom.sop_class import CTImageStorage

        entity = AE("BENCH")
        entity.add_requested_context(CTImageStorage)
        association = entity.associate(peer.host, peer.port, ae_title=peer.ae_title)
        for path in self.paths:
            if association.send_c_store(dcmread(path)).Status != 0:
                raise RuntimeError("pynetdicom's C-STORE failed")
        association.release()

    # Retrieving from Orthanc, or from DCMTK's archive

    def get_by_us(self) -> tuple[float, float]:
        return self._retrieve_by_us(self.pacs.dimse)

    def move_by_us(self) -> tuple[float, float]:
        port = self.pacs.move_port
        return self._retrieve_by_us(
            DimseEndpoint("", "127.0.0.1", self.pacs.dicom_port, "ORTHANC", retrieve="C-MOVE", move_port=port)
        )

    def wado_by_us(self) -> tuple[float, float]:
        return self._retrieve_by_us(self.pacs.dicomweb)

    def _retrieve_by_us(self, endpoint: DimseEndpoint | DicomWebEndpoint) -> tuple[float, float]:
        folder = self.fresh()

        def retrieve() -> None:
            with InstanceStore(folder) as store, connect(endpoint) as client:
                self._complete(client.retrieve(self.study_uid, self.series_uid, into=store))

        seconds = timed(retrieve)
        self.check(folder)
        return seconds

    def list_by_dimse(self) -> tuple[float, float]:
        return self._list(self.pacs.dimse)

    def list_by_web(self) -> tuple[float, float]:
        return self._list(self.pacs.dicomweb)

    def _list(self, endpoint: DimseEndpoint | DicomWebEndpoint) -> tuple[float, float]:
        """Ask for the instances only, which every retrieve of ours does first, and the others never do."""
        with connect(endpoint) as client:
            return timed(lambda: client.find_instances(self.study_uid, self.series_uid))

    def get_by_dcmtk(self) -> tuple[float, float]:
        folder = self.fresh()
        keys = ["-k", "QueryRetrieveLevel=SERIES", "-k", f"StudyInstanceUID={self.study_uid}"]
        keys += ["-k", f"SeriesInstanceUID={self.series_uid}"]
        arguments = ["-S", "-aec", "ORTHANC", *keys, "-od", str(folder), "127.0.0.1", str(self.pacs.dicom_port)]
        seconds = timed(lambda: run_client("getscu", *arguments))
        self.check(folder)
        return seconds

    def get_by_pynetdicom(self) -> tuple[float, float]:
        from pynetdicom import AE, build_role, evt
        from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelGet

        folder = self.fresh()

        def save(event: Any) -> int:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            dataset.save_as(folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
            return 0x0000

        def retrieve() -> None:
            entity = AE("BENCH")
            entity.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
            entity.add_requested_context(CTImageStorage)
            role = build_role(CTImageStorage, scp_role=True)
            handlers = [(evt.EVT_C_STORE, save)]
            association = entity.associate(
                "127.0.0.1", self.pacs.dicom_port, ae_title="ORTHANC", ext_neg=[role], evt_handlers=handlers
            )
            request = Dataset()
            request.QueryRetrieveLevel = "SERIES"
            request.StudyInstanceUID, request.SeriesInstanceUID = self.study_uid, self.series_uid
            for _answer in association.send_c_get(request, StudyRootQueryRetrieveInformationModelGet):
                pass
            association.release()

        seconds = timed(retrieve)
        self.check(folder)
        return seconds

    def wado_by_dicomweb_client(self) -> tuple[float, float]:
        return self._wado_by(lambda client: client.retrieve_series(self.study_uid, self.series_uid))

    def wado_by_iter_series(self) -> tuple[float, float]:
        return self._wado_by(lambda client: client.iter_series(self.study_uid, self.series_uid))

    def _wado_by(self, retrieve: Callable[[Any], Any]) -> tuple[float, float]:
        from dicomweb_client import DICOMwebClient

        folder = self.fresh()

        def save() -> None:
            for number, dataset in enumerate(retrieve(DICOMwebClient(self.pacs.dicomweb.url))):
                dataset.save_as(folder / f"{number}.dcm", enforce_file_format=True)

        seconds = timed(save)
        self.check(folder)
        return seconds

    # STOW-RS

    def stow_by_us(self) -> tuple[float, float]:
        endpoint = DicomWebEndpoint("", self.pacs.dicomweb.url, connections=2)

        def store() -> None:
            with connect(endpoint) as client:
                self._complete(client.store(self.paths))

        return timed(store)

    def stow_by_dicomweb_client(self) -> tuple[float, float]:
        from dicomweb_client import DICOMwebClient

        client = DICOMwebClient(self.pacs.dicomweb.url)
        return timed(lambda: client.store_instances([dcmread(path) for path in self.paths]))

    @staticmethod
    def _complete(report: Any) -> None:
        if not report.complete:
            raise RuntimeError(f"{len(report.failed)} instances were not transferred: {report.failed[0].reason}")


STAGES: dict[str, dict[str, Callable[[Bench], tuple[float, float]]]] = {
    "receive C-STORE": {"ours": Bench.into_us, "pynetdicom": Bench.into_pynetdicom, "DCMTK": Bench.into_dcmtk},
    "send C-STORE": {"ours": Bench.send_by_us, "pynetdicom": Bench.send_by_pynetdicom, "DCMTK": Bench.send_by_dcmtk},
    "C-GET": {
        "ours": Bench.get_by_us,
        "of it the list": Bench.list_by_dimse,
        "pynetdicom": Bench.get_by_pynetdicom,
        "DCMTK": Bench.get_by_dcmtk,
    },
    "C-MOVE": {"ours": Bench.move_by_us},
    "WADO-RS": {
        "ours": Bench.wado_by_us,
        "of it the list": Bench.list_by_web,
        "retrieve_series": Bench.wado_by_dicomweb_client,
        "iter_series": Bench.wado_by_iter_series,
    },
    "STOW-RS": {"ours": Bench.stow_by_us, "store_instances": Bench.stow_by_dicomweb_client},
}


def timed(action: Callable[[], Any]) -> tuple[float, float]:
    """Return the wall seconds, and the CPU seconds of this process and of the programs that it ran."""
    wall, cpu = time.perf_counter(), sum(os.times()[:4])
    action()
    return time.perf_counter() - wall, sum(os.times()[:4]) - cpu


def cpu_of(pid: int) -> float:
    """Return the CPU seconds that a process and its children have used (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(fields[n]) for n in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def is_dicom(path: Path) -> bool:
    """Return whether a file begins as a DICOM file does."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def pixel_digests(paths: list[Path]) -> dict[str, str]:
    """Return SOP Instance UID -> digest of the pixel data."""
    datasets = (dcmread(path) for path in paths)
    return {str(dataset.SOPInstanceUID): hashlib.sha256(dataset.PixelData).hexdigest() for dataset in datasets}


def missed_targets(best: Times) -> list[str]:
    """Print how the targets are met, and return those that are missed by more than the leeway."""
    missed = []
    for (stage, way), most in TARGETS.items():
        if stage not in best:
            continue
        taken = best[stage]["ours"][0] / best[stage][way][0]
        print(f"{'reached' if taken <= most else 'MISSED'}: {stage} in {taken:.2f} of {way}'s time, target {most:.2f}")
        if taken > most * LEEWAY:
            missed.append(f"{stage}, {way}")
    return missed


def print_disk(paths: list[Path], folder: Path) -> None:
    """Print what writing these files takes there, and what waiting until each is safe does, as our receiver does."""
    copy, seconds = folder / "copy", []
    for wait in (False, True):
        started = time.perf_counter()
        for path in paths:
            with copy.open("wb") as file:
                file.write(path.read_bytes())
                if wait:
                    os.fsync(file.fileno())
        seconds.append(time.perf_counter() - started)
        copy.unlink()
    print(f"files written below {folder.parent}: {seconds[0]:.2f} s; each made safe on disk: {seconds[1]:.2f} s")


@contextmanager
def peers(folder: Path) -> Iterator[tuple[Orthanc, DimseEndpoint]]:
    """Run Orthanc and DCMTK's archive."""
    with ExitStack() as stack:
        yield stack.enter_context(orthanc(folder / "orthanc")), stack.enter_context(dcmqrscp(folder / "dcmqrscp"))


def print_table(best: Times) -> None:
    """Print each way beside ours; a ratio above 1 says how many times as long it takes."""
    print(f"{'':<18}{'way':<18}{'wall s':>8}{'CPU s':>8}{'wall / ours':>13}{'CPU / ours':>12}")
    for stage, ways in best.items():
        ours = ways["ours"]
        for way, (wall, cpu) in ways.items():
            ratios = f"{wall / ours[0]:13.2f}{cpu / max(ours[1], 0.01):12.2f}"
            print(f"{stage:<18}{way:<18}{wall:8.2f}{cpu:8.2f}{ratios}")


def main() -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m bench.transfer", description=__doc__)
    parser.add_argument("--repeat", type=int, default=3, help="passes; the best of each way counts (default 3)")
    parser.add_argument("--slices", type=int, default=300, help="slices of the CT (default 300)")
    ram = Path("/dev/shm")  # noqa: S108 - others would have to wait for a disk, which is not what is measured
    parser.add_argument("--folder", type=Path, help="where temporary files go (default: a RAM disk where there is one)")
    parser.add_argument("--only", help="only stages that contain this text")
    arguments = parser.parse_args()
    lacking = [name for name in ("Orthanc", "storescp", "storescu", "getscu", "dcmqrscp") if not which(name)]
    if lacking:
        print(f"Left out: transfers, since these programs are not installed: {', '.join(lacking)}")
        return 0
    arguments.folder = arguments.folder or (ram if ram.is_dir() else None)
    with tempfile.TemporaryDirectory(prefix="aidicombridge-bench-", dir=arguments.folder) as name:
        folder = Path(name)
        paths = write_ct(folder / "ct", arguments.slices)
        print_disk(paths, folder)
        best: Times = {}
        with peers(folder) as (pacs, dcmtk):
            connect(pacs.dimse).store(paths)
            bench = Bench(folder, paths, pacs, dcmtk)
            for number in range(arguments.repeat):
                print(f"Pass {number + 1} of {arguments.repeat}", flush=True)
                for stage, ways in STAGES.items():
                    if arguments.only and arguments.only.lower() not in stage.lower():
                        continue
                    for way, run in ways.items():
                        seconds = run(bench)
                        known = best.setdefault(stage, {}).get(way, seconds)
                        best[stage][way] = (min(known[0], seconds[0]), min(known[1], seconds[1]))
    print_table(best)
    print(f"{arguments.slices} slices of 512 x 512; load average {' '.join(f'{n:.1f}' for n in os.getloadavg())}")
    return 1 if missed_targets(best) else 0


if __name__ == "__main__":
    raise SystemExit(main())
