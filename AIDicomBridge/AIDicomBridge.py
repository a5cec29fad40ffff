"""The Slicer module: from the PACS through a segmentation network and back. Everything is done in AIDicomBridgeLib."""

from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)


class AIDicomBridge(ScriptedLoadableModule):
    """What Slicer's module list shows."""

    def __init__(self, parent):
        super().__init__(parent)
        self.parent.title = "AIDicomBridge"
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "DICOM")]
        self.parent.contributors = ["The AIDicomBridge developers"]
        self.parent.helpText = _(
            "Retrieves image series from a PACS, runs a segmentation network on them, and sends the result back as "
            "DICOM Segmentation, measurement report and secondary capture. For research; not for diagnostic use."
        )
        self.parent.acknowledgementText = _("Built on pydicom, pynetdicom, highdicom and PyTorch.")


class AIDicomBridgeWidget(ScriptedLoadableModuleWidget):
    """The module's panel: so far one line that names the other ways in."""

    def setup(self):
        """Show the line. Works without a main window and without any package that Slicer does not bring."""
        import qt

        super().setup()
        self.logic = AIDicomBridgeLogic()
        label = qt.QLabel(
            _(
                "The panel comes in a later version. Everything is available from the Python console, for example:\n\n"
                "logic = slicer.util.getModuleLogic('AIDicomBridge')\n"
                "volumeNode = logic.loadSeries('/path/to/series')\n"
                "segmentationNode = logic.segment(volumeNode, 'ct-tissues')\n"
                "help(logic)"
            )
        )
        label.wordWrap = True
        self.layout.addWidget(label)
        self.layout.addStretch(1)


class AIDicomBridgeLogic(ScriptedLoadableModuleLogic):
    """The whole loop for the Python console and for scripts: nodes in, nodes out. Main thread only.

    An endpoint is a text such as ``"dimse://ORTHANC@192.168.1.20:4242"`` or ``"https://pacs.example.org/dicom-web"``,
    or an endpoint object of AIDicomBridgeLib. Failures are errors of ``AIDicomBridgeLib.errors`` that say what to do.

    >>> logic = slicer.util.getModuleLogic("AIDicomBridge")
    >>> study = logic.find("dimse://ORTHANC@192.168.1.20:4242", accession_number="A0001")[0]
    >>> paths = logic.retrieve("dimse://ORTHANC@192.168.1.20:4242", study.study_uid)
    >>> volumeNode = logic.loadSeries(paths)
    >>> segmentationNode = logic.segment(volumeNode, "mindgrab")
    >>> results = logic.exportSegmentation(segmentationNode, "/tmp/results")
    >>> report = logic.send("dimse://ORTHANC@192.168.1.20:4242", results)
    """

    def __init__(self, parent=None):
        super().__init__(parent)
        from AIDicomBridgeLib.mrml.source_files import SourceFiles

        self.sourceFiles = SourceFiles()

    def find(self, endpoint, **keys):
        """Return the studies that match all keys, as StudyRecord objects; the keys are those of find_studies.

        >>> logic.find("dimse://ORTHANC@192.168.1.20:4242", patient_name="DOE*", study_date="20260101-20260131")
        """
        with self._connect(endpoint) as client:
            return client.find_studies(**keys)

    def findSeries(self, endpoint, studyUID):
        """Return the series of a study, as SeriesRecord objects."""
        with self._connect(endpoint) as client:
            return client.find_series(studyUID)

    def retrieve(self, endpoint, studyUID, seriesUID=None, folder=None):
        """Bring a study, or one series of it, to this machine and return the paths of its files.

        Without a folder they go to a new temporary one, readable by this user only; remove it when done.
        """
        import tempfile

        from AIDicomBridgeLib import InstanceStore

        folder = folder or tempfile.mkdtemp(prefix="aidicombridge-")
        with self._connect(endpoint) as client, InstanceStore(folder) as store:
            client.retrieve(studyUID, seriesUID, into=store).raise_if_incomplete()
            return [instance.path for instance in store.instances(studyUID, seriesUID)]

    def loadSeries(self, folderOrPaths):
        """Load one image series from a folder or from its files, and return its volume node."""
        import slicer
        from AIDicomBridgeLib import read_volume
        from AIDicomBridgeLib.mrml.volume_node import volume_node_from

        volume = read_volume(folderOrPaths)
        self.sourceFiles.remember(volume.source)
        return volume_node_from(volume, slicer.mrmlScene)

    def segment(self, volumeNode, modelName, device="auto"):
        """Run a model on a volume that was loaded from DICOM, and return the segmentation node.

        The model is a name of the catalogue or the path of a model card. The volume may come from loadSeries or from
        Slicer's DICOM module.
        """
        import slicer
        from AIDicomBridgeLib import load_model
        from AIDicomBridgeLib.mrml.segmentation_node import segmentation_node_from
        from AIDicomBridgeLib.mrml.slicer_packages import ensure_packages

        ensure_packages("platformdirs", "safetensors")
        labels = load_model(modelName, device=device).segment(self._volume(volumeNode))
        return segmentation_node_from(labels, slicer.mrmlScene, volume_node=volumeNode)

    def exportSegmentation(self, segmentationNode, folder, outputs=("seg", "sr", "sc"), encoding="BINARY"):
        """Write a segmentation, as it is now with all edits, as DICOM files and return their paths.

        Outputs are ``"seg"`` (DICOM Segmentation), ``"sr"`` (measurement report on it) and ``"sc"`` (secondary
        captures with the outline); the encoding of the first is ``"BINARY"`` or ``"LABELMAP"``.

        >>> paths = logic.exportSegmentation(segmentationNode, "/tmp/results", outputs=("seg", "sr"))
        """
        from AIDicomBridgeLib.mrml.segmentation_files import write_segmentation_files
        from AIDicomBridgeLib.mrml.segmentation_node import reference_volume_node

        volume = self._volume(reference_volume_node(segmentationNode))
        return write_segmentation_files(segmentationNode, volume, folder, outputs=outputs, encoding=encoding)

    def send(self, endpoint, paths):
        """Store DICOM files at an endpoint and return the StoreReport, with the outcome of every instance."""
        with self._connect(endpoint) as client:
            return client.store(paths)

    def runJob(self, endpoint, studyUID, modelName, destinations, *, outboxFolder=None, progress=None, **jobFields):
        """Do it all without nodes: retrieve, segment, encode, send, prove that it arrived; return the JobReport.

        Further fields of AIDicomBridgeLib.Job may be given by name: series_uid, outputs, encodings, device, out, ...
        What cannot be delivered waits in the outbox, by default the one of the command line.

        >>> logic.runJob("dimse://ORTHANC@192.168.1.20:4242", study.study_uid, "mindgrab", ["dimse://PACS@pacs:104"])
        """
        from AIDicomBridgeLib import Job, Outbox, run_job
        from AIDicomBridgeLib.user_folder import user_folder

        job = Job(
            source=self._endpoint(endpoint),
            study_uid=studyUID,
            model=modelName,
            destinations=tuple(self._endpoint(destination) for destination in destinations),
            outbox=Outbox(outboxFolder or user_folder() / "outbox"),
            **jobFields,
        )
        return run_job(job, progress=progress)

    def _volume(self, volumeNode):
        import slicer
        from AIDicomBridgeLib.mrml.volume_node import image_volume_from

        source = self.sourceFiles.source_of(volumeNode, getattr(slicer, "dicomDatabase", None))
        return image_volume_from(volumeNode, source)

    def _connect(self, endpoint):
        from AIDicomBridgeLib import connect

        return connect(self._endpoint(endpoint))

    def _endpoint(self, endpoint):
        import os

        from AIDicomBridgeLib import parse_endpoint
        from AIDicomBridgeLib.mrml.slicer_packages import ensure_packages

        ensure_packages("pynetdicom", "platformdirs")
        return parse_endpoint(endpoint, environ=os.environ) if isinstance(endpoint, str) else endpoint


class AIDicomBridgeTest(ScriptedLoadableModuleTest):
    """What "Reload and Test" runs inside Slicer."""

    def test_volumeWithoutSourceIsRefused(self):
        """A volume that did not come from DICOM has no source frames, and the error says so."""
        import slicer
        from AIDicomBridgeLib.errors import NotFoundError

        volumeNode = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        self.assertRaises(NotFoundError, AIDicomBridgeLogic().segment, volumeNode, "ct-tissues")  # noqa: PT027
        slicer.mrmlScene.RemoveNode(volumeNode)
