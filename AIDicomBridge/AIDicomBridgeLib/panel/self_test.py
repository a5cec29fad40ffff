"""What the module tests of its worker and of the panel's timer inside Slicer: where its Python and its Qt are."""

import tempfile
import time
from contextlib import closing
from pathlib import Path
from unittest import SkipTest

DEADLINE_S = 120.0


class PanelSelfTest:
    """Mixed into a TestCase beside :class:`..mrml.self_test.SelfTest`; needs neither torch nor pynetdicom."""

    def test_worker(self):
        """The background process answers, is cancelled, answers anew, and leaves nothing."""
        from ..series.image_files import ImageFiles
        from ..series.sample_series import write_sample_series
        from ..worker.client import Worker

        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "private")
            place.mkdir()
            with closing(Worker(folder=lambda: place)) as worker:
                paths = write_sample_series(folder)

                def last_event(call, **arguments):
                    worker.submit(call, **arguments)
                    deadline = time.monotonic() + DEADLINE_S
                    while time.monotonic() < deadline:
                        for event in worker.poll():
                            if event.kind != "progress":
                                return event
                        time.sleep(0.01)
                    raise AssertionError(f"no answer to {call} in {DEADLINE_S:g} s")

                files = ImageFiles(tuple(map(Path, paths)))
                source = last_event("source", files=files)
                assert source.error is None, source.error
                assert sorted(source.result.paths) == sorted(files.paths)
                worker.submit("read", files=files)
                worker.cancel()
                assert [event.kind for event in worker.poll()] == ["cancelled"]
                deadline = time.monotonic() + DEADLINE_S
                while worker.ending and time.monotonic() < deadline:
                    worker.poll()
                    time.sleep(0.01)
                assert list(place.iterdir()) == []
                assert last_event("outbox", outbox_folder=Path(folder, "outbox")).result == []
                worker.close()
                assert list(place.iterdir()) == []

    def test_panel_runner(self):
        """A flow of the panel is driven by its timer, while Slicer's events go on, and can be cancelled."""
        import slicer

        if not hasattr(slicer, "app"):
            raise SkipTest("there is no application")
        from ..errors import JobCancelled
        from ..series.image_files import ImageFiles
        from ..series.sample_series import write_sample_series
        from ..worker.client import Worker
        from .task_runner import Call, TaskRunner

        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder, "private")
            place.mkdir()
            files = ImageFiles(tuple(map(Path, write_sample_series(folder))))
            worker = Worker(folder=lambda: place)
            with closing(TaskRunner(on_change=lambda: None, worker=worker)) as runner:
                seen = []

                def flow():
                    try:
                        seen.append((yield Call("read", files=files)))
                    except JobCancelled:
                        seen.append("cancelled")
                        raise

                def wait():
                    deadline = time.monotonic() + DEADLINE_S
                    while runner.busy and time.monotonic() < deadline:
                        slicer.app.processEvents()
                        time.sleep(0.005)
                    assert not runner.busy, "the flow has not ended"

                runner.start(flow())
                assert runner.busy
                wait()
                assert len(seen[0].voxels) == len(files.paths)
                runner.start(flow())
                runner.cancel()
                wait()
                assert seen[1:] == ["cancelled"]
                runner.start(flow())
                wait()
                assert seen[2].voxels.shape == seen[0].voxels.shape
                del seen[:]
                runner.close()
                assert list(place.iterdir()) == []
