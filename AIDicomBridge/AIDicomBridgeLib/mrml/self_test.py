"""What the module tests of itself inside Slicer, where ctest and "Reload and Test" run it."""

import sys
import tempfile
import unittest
from importlib.util import find_spec
from pathlib import Path


class SelfTest:
    """The tests; mixed into a TestCase that gives a Logic of the module by ``makeLogic()``.

    The data are made in code and the archive is the built-in one on this machine's loopback address: nothing comes
    from the network or goes there, and nothing is kept but nodes in the scene.
    """

    def runTest(self):  # noqa: N802 - Slicer's name for what "Reload and Test" runs
        """Run all tests and fail if one fails; Slicer's own ends at the first one that is skipped."""
        suite = unittest.defaultTestLoader.loadTestsFromTestCase(type(self))
        result = unittest.TextTestRunner(stream=sys.stdout, verbosity=2).run(suite)
        self.assertTrue(result.wasSuccessful())

    def skip_without(self, package):
        """End the test as skipped where a package is missing that Slicer does not bring."""
        if find_spec(package) is None:
            self.skipTest(f"{package} is not installed")

    def test_volume_without_source_is_refused(self):
        """A volume that did not come from DICOM has no source frames, and the error says so."""
        import slicer

        from ..errors import NotFoundError

        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        self.assertRaises(NotFoundError, self.makeLogic().segment, node, "ct-tissues")
        slicer.mrmlScene.RemoveNode(node)

    def test_sample_series_becomes_dicom_results(self):
        """A synthetic CT is loaded, segmented by rules, and written as SEG and SR; needs no archive."""
        self.skip_without("torch")
        logic = self.makeLogic()
        segmentation_node = logic.segment(logic.loadSampleSeries(), "ct-tissues")
        self.assertEqual(segmentation_node.GetSegmentation().GetNumberOfSegments(), 4)
        with tempfile.TemporaryDirectory() as folder:
            paths = logic.exportSegmentation(segmentation_node, f"{folder}/results", outputs=("seg", "sr"))
            self.assertEqual([path.name for path in paths], ["seg-001.dcm", "sr-001.dcm"])

    def test_edited_segment_is_semiautomatic(self):
        """A segment that is edited in its node is exported with the edit, as SEMIAUTOMATIC; the others are not."""
        import slicer

        from ..series.dicom_file import read_dicom

        self.skip_without("torch")
        logic = self.makeLogic()
        segmentation_node = logic.segment(logic.loadSampleSeries(), "ct-tissues")
        slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentation_node, "Segment_4")[0, :3, :3] = 4
        with tempfile.TemporaryDirectory() as folder:
            (path,) = logic.exportSegmentation(segmentation_node, f"{folder}/results", outputs=("seg",))
            segments = read_dicom(path).SegmentSequence
        types = {str(item.SegmentLabel): item.SegmentAlgorithmType for item in segments}
        self.assertEqual(types.pop("Bone"), "SEMIAUTOMATIC")
        self.assertEqual(set(types.values()), {"AUTOMATIC"})

    def test_files_are_filed_in_the_dicom_database(self):
        """Slicer's DICOM database takes copies of the files, and what it has is not written again."""
        from ..series.dicom_file import read_dicom
        from ..series.sample_series import write_sample_series
        from .dicom_database import Filing, open_database

        database = open_database()
        if database is None:
            self.skipTest("Slicer's DICOM database is not open")
        with tempfile.TemporaryDirectory() as folder:
            headers = {path: read_dicom(path, stop_before_pixels=True) for path in write_sample_series(folder)}
            files = {str(header.SOPInstanceUID): path for path, header in headers.items()}
            series_uid = str(next(iter(headers.values())).SeriesInstanceUID)
            self.addCleanup(database.removeSeries, series_uid)  # the database may be the user's own
            first = Filing(database, files, series_uid)
            self.assertEqual(list(first.steps())[-1], len(files))
            self.assertTrue(first.complete)
            for uid, copy in first.filed.items():
                self.assertEqual(copy.read_bytes(), files[uid].read_bytes())
            written = {copy: copy.stat().st_mtime_ns for copy in first.filed.values()}
            second = Filing(database, files, series_uid)
            list(second.steps())
            self.assertEqual((second.filed, len(second.present)), ({}, len(files)))
            self.assertEqual({copy: copy.stat().st_mtime_ns for copy in written}, written)
            database.removeSeries(series_uid)
            cut_short = Filing(database, files, series_uid)
            steps = cut_short.steps()
            next(steps)
            steps.close()
            self.assertEqual(len(database.filesForSeries(series_uid)), 0)

    def test_whole_loop(self):
        """A synthetic CT is found in an archive, retrieved, loaded, segmented, exported, sent, and found again."""
        from .slicer_packages import ensure_packages

        ensure_packages("pynetdicom")  # asks the person; under --testing Slicer installs nothing
        self.skip_without("pynetdicom")
        self.skip_without("torch")
        from ..pacs.archive import Archive
        from ..series.instance_store import InstanceStore
        from ..series.sample_series import write_sample_series

        logic = self.makeLogic()
        with (
            tempfile.TemporaryDirectory() as folder,
            InstanceStore(Path(folder, "archive")) as store,
            Archive(store) as archive,
        ):
            files = write_sample_series(folder)
            for path in files:
                store.add_file(path)
            address = archive.endpoint.address
            (study,) = logic.find(address, accession_number="AIDB-SAMPLE")
            (series,) = logic.findSeries(address, study.study_uid)
            paths = logic.retrieve(address, study.study_uid, series.series_uid, folder=f"{folder}/retrieved")
            self.assertEqual(len(paths), len(files))
            segmentation_node = logic.segment(logic.loadSeries(paths), "ct-tissues")
            results = logic.exportSegmentation(segmentation_node, f"{folder}/results")
            self.assertTrue(logic.send(address, results).complete)
            found = {series.modality for series in logic.findSeries(address, study.study_uid)}
            self.assertTrue({"CT", "SEG", "SR"} <= found, found)
            self.assertEqual(len(store.instances(study.study_uid)), len(files) + len(results))
