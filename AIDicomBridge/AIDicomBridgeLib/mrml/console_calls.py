"""What the module's Logic offers in Slicer's Python console; camelCase, as everywhere in Slicer."""

from ..private_folder import PrivateFolder
from .source_files import SourceFiles


class ConsoleCalls:
    """The whole loop for the Python console and for scripts: nodes in, nodes out. Main thread only.

    An endpoint is a text such as ``"dimse://ORTHANC@192.168.1.20:4242"`` or ``"https://pacs.example.org/dicom-web"``,
    or an endpoint object of AIDicomBridgeLib. Failures are errors of ``AIDicomBridgeLib.errors`` that say what to do.

    >>> logic = slicer.util.getModuleLogic("AIDicomBridge")
    >>> study = logic.find("dimse://ORTHANC@192.168.1.20:4242", accession_number="A0001")[0]
    >>> series = logic.findSeries("dimse://ORTHANC@192.168.1.20:4242", study.study_uid)[0]
    >>> paths = logic.retrieve("dimse://ORTHANC@192.168.1.20:4242", study.study_uid, series.series_uid)
    >>> volumeNode = logic.loadSeries(paths)
    >>> segmentationNode = logic.segment(volumeNode, "mindgrab")
    >>> results = logic.exportSegmentation(segmentationNode, "/data/results")
    >>> report = logic.send("dimse://ORTHANC@192.168.1.20:4242", results)

    Attributes
    ----------
    sourceFiles
        Which files the volumes came from; shared with the panel.
    """

    def __init__(self):
        self.sourceFiles = SourceFiles()
        self._privateFolder = PrivateFolder()  # removed with the Logic

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

        Without a folder they go to a temporary one, which this user only can read, and which goes when Slicer ends.
        """
        import tempfile

        from .. import InstanceStore

        folder = folder or tempfile.mkdtemp(dir=self._privateFolder.path)
        with self._connect(endpoint) as client, InstanceStore(folder) as store:
            client.retrieve(studyUID, seriesUID, into=store).raise_if_incomplete()
            return [instance.path for instance in store.instances(studyUID, seriesUID)]

    def loadSeries(self, folderOrPaths, stack=None, resample=False, suv=False):
        """Load one image series from a folder or from its files, and return its volume node.

        Of a series that holds several stacks (planes, phases, echoes) the one of that number is taken, from 1 on;
        without a number it is refused with their list. One with missing slices, uneven spacing or gantry tilt is
        refused too, or with resample shown and segmented on a regular grid; its results lie on the slices as they are.
        With suv a PET series comes as SUV by body weight, and its measurements too.
        """
        import slicer

        from .. import read_volume
        from .volume_node import volume_node_from

        volume = read_volume(folderOrPaths, stack=stack, resample=resample, suv=suv)
        self.sourceFiles.remember(volume.source)
        return volume_node_from(volume, slicer.mrmlScene, patients=self.sourceFiles.patients)

    def loadSampleSeries(self):
        """Make a synthetic CT, as DICOM, and return its volume node: to try everything without an archive or a patient.

        >>> segmentationNode = logic.segment(logic.loadSampleSeries(), "ct-tissues")
        """
        import tempfile

        from ..series.sample_series import write_sample_series

        return self.loadSeries(write_sample_series(tempfile.mkdtemp(dir=self._privateFolder.path)))

    def segment(
        self,
        volumeNode,
        modelName,
        device="auto",
        anyBodyPart=False,
        precision="auto",
        mirror=True,
        memoryLimitBytes=None,
    ):
        """Run a model on a volume that was loaded from DICOM, and return the segmentation node.

        The model is a name of the catalogue or the path of a model card. The volume may come from loadSeries or from
        Slicer's DICOM module; it must still show what its files hold, because a result refers to them. A series whose
        header names a body part that the model is not for is refused, unless anyBodyPart is True. Whatever a volume
        of PET shows, a model gets the unit that it was trained on: SUV or the series' own. Device, precision and mirror
        are those of AIDicomBridgeLib.load_model; what does not fit into memoryLimitBytes is refused at once.
        """
        import slicer

        from .. import load_model, read_volume
        from ..results.edited_segments import with_fingerprints
        from ..series.regular_grid import regular_volume
        from .segmentation_node import segmentation_node_from
        from .slicer_packages import ensure_packages, ensure_torch
        from .volume_node import compared_planes, is_shown_as_suv, place_of_volume

        self._refuseOther(volumeNode, "vtkMRMLScalarVolumeNode")
        source = self._source(volumeNode)
        place_of_volume(volumeNode, source)  # refuses a cropped one before anything is installed
        ensure_packages("platformdirs", "safetensors")
        ensure_torch()  # the models that are rules count with it too
        volume = read_volume(source, suv=is_shown_as_suv(volumeNode))
        for _plane in compared_planes(volumeNode, regular_volume(volume)):
            pass
        model = load_model(modelName, device=device, precision=precision, mirror=mirror)
        as_suv = model.card.unit_is_suv(source.modality, volume.suv is not None)
        if as_suv != (volume.suv is not None):
            volume = read_volume(source, suv=as_suv)
        labels = model.segment(volume, any_body_part=anyBodyPart, memory_limit_bytes=memoryLimitBytes)
        return segmentation_node_from(with_fingerprints(labels), slicer.mrmlScene, volume_node=volumeNode)

    def exportSegmentation(self, segmentationNode, folder, outputs=None, encoding=None, profile=None):
        """Write a segmentation, as it is now with all edits, as DICOM files and return their paths.

        Outputs are ``"seg"`` (DICOM Segmentation), ``"sr"`` (measurement report on it) and ``"sc"`` (secondary
        captures with the outline); the encoding of the first is ``"BINARY"`` or ``"LABELMAP"``. Where they are not
        given, the profile of the archive that the files are meant for decides: ``"ohif"``, ``"orthanc"``, ...

        >>> paths = logic.exportSegmentation(segmentationNode, "/data/results", outputs=("seg", "sr"))
        >>> paths = logic.exportSegmentation(segmentationNode, "/data/results", profile="ohif")
        """
        from pathlib import Path

        from .. import read_volume
        from ..results.checked_results import write_checked_results
        from .segmentation_node import image_files_of, label_volume_from, reference_volume_node

        self._refuseOther(segmentationNode, "vtkMRMLSegmentationNode")
        source = self._source(reference_volume_node(segmentationNode))
        labels = label_volume_from(segmentationNode, source)
        volume = read_volume(source, suv=image_files_of(segmentationNode, source).suv)
        encodings = (encoding,) if encoding else None
        written = write_checked_results(
            labels, volume, Path(folder), profile=profile, outputs=outputs, encodings=encodings
        )
        return [result.path for result, _ in written]

    def send(self, endpoint, paths):
        """Store DICOM files at an endpoint and return the StoreReport, with the outcome of every instance."""
        with self._connect(endpoint) as client:
            return client.store(paths)

    def runJob(self, endpoint, studyUID, modelName, destinations, *, outboxFolder=None, progress=None, **jobFields):
        """Do it all without nodes: retrieve, segment, encode, send, prove that it arrived; return the JobReport.

        Further fields of AIDicomBridgeLib.Job may be given by name: series_uid, stack, resample, outputs, encodings,
        device, precision, mirror, memory_limit_bytes, out, ... With encodings=("FRACTIONAL",) the SEG holds the model's
        probabilities.
        What cannot be delivered waits in the outbox, by default the one of the command line.

        >>> logic.runJob("dimse://ORTHANC@192.168.1.20:4242", study.study_uid, "mindgrab", ["dimse://PACS@pacs:104"])
        """
        from .. import Job, Outbox, run_job
        from ..user_folder import user_folder
        from .slicer_packages import ensure_packages, ensure_torch

        ensure_packages("pynetdicom", "platformdirs", "safetensors")
        ensure_torch()
        job = Job(
            source=self._endpoint(endpoint),
            study_uid=studyUID,
            model=modelName,
            destinations=tuple(self._endpoint(destination) for destination in destinations),
            outbox=Outbox(outboxFolder or user_folder() / "outbox"),
            **jobFields,
        )
        return run_job(job, progress=progress)

    @staticmethod
    def _refuseOther(node, className):
        from ..errors import NotFoundError

        if not (hasattr(node, "IsA") and node.IsA(className)):
            raise NotFoundError(
                f"what was given is no {className}", advice="Give the node itself: slicer.util.getNode(name) finds it."
            )

    def _source(self, volumeNode):
        import slicer

        return self.sourceFiles.source_of(volumeNode, getattr(slicer, "dicomDatabase", None))

    def _connect(self, endpoint):
        from .. import connect

        return connect(self._endpoint(endpoint))

    def _endpoint(self, endpoint):
        import os

        from .. import parse_endpoint
        from .slicer_packages import ensure_packages

        ensure_packages("pynetdicom", "platformdirs")
        return parse_endpoint(endpoint, environ=os.environ) if isinstance(endpoint, str) else endpoint
