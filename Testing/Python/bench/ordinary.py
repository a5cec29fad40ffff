"""The loop as it is usually written with pynetdicom, pydicom, highdicom and Slicer's Python functions."""

from pathlib import Path
from typing import Any

import numpy as np
from AIDicomBridgeLib import DimseEndpoint, LabelVolume

NAME = "ordinary"


class Loop:
    """One pass; each method is a stage and leaves its result in an attribute."""

    def __init__(self, endpoint: DimseEndpoint, labels: LabelVolume, folder: Path, core: Any) -> None:
        self.endpoint, self.labels, self.core = endpoint, labels, core
        self.folder = folder
        self.folder.mkdir()

    def retrieve(self) -> None:
        """C-GET, every instance decoded and saved."""
        from pydicom import Dataset
        from pynetdicom import AE, build_role, evt
        from pynetdicom.sop_class import CTImageStorage, StudyRootQueryRetrieveInformationModelGet

        def save(event: Any) -> int:
            dataset = event.dataset
            dataset.file_meta = event.file_meta
            dataset.save_as(self.folder / f"{dataset.SOPInstanceUID}.dcm", enforce_file_format=True)
            return 0x0000

        entity = AE(self.endpoint.calling_ae_title)
        entity.add_requested_context(StudyRootQueryRetrieveInformationModelGet)
        entity.add_requested_context(CTImageStorage)
        association = entity.associate(
            self.endpoint.host,
            self.endpoint.port,
            ae_title=self.endpoint.ae_title,
            ext_neg=[build_role(CTImageStorage, scp_role=True)],
            evt_handlers=[(evt.EVT_C_STORE, save)],
        )
        wanted = Dataset()
        wanted.QueryRetrieveLevel = "SERIES"
        wanted.StudyInstanceUID, wanted.SeriesInstanceUID = self.labels.source.study_uid, self.labels.source.series_uid
        answers = list(association.send_c_get(wanted, StudyRootQueryRetrieveInformationModelGet))
        association.release()
        if answers[-1][0].Status != 0x0000:
            raise RuntimeError(f"C-GET ended with status 0x{answers[-1][0].Status:04X}")

    def volume(self) -> None:
        """Read all files, sort by position, rescale in float64, stack."""
        from pydicom import dcmread

        self.images = sorted(
            (dcmread(path) for path in self.folder.glob("*.dcm")), key=lambda image: image.ImagePositionPatient[2]
        )
        self.voxels = np.stack(
            [image.pixel_array * float(image.RescaleSlope) + float(image.RescaleIntercept) for image in self.images]
        )

    def tensor(self) -> None:
        """A float32 tensor of the volume, NCDHW."""
        import torch

        self.tensor_ncdhw = torch.tensor(self.voxels, dtype=torch.float32)[None, None]

    def nodes(self) -> None:
        """A volume node, and a segmentation node with one label map per segment."""
        import slicer
        import vtk
        from vtk.util.numpy_support import numpy_to_vtk

        matrix = vtk.vtkMatrix4x4()
        matrix.DeepCopy((np.diag([-1, -1, 1, 1]) @ self.labels.ijk_to_lps).ravel())
        volume = self.core.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
        volume.SetIJKToRASMatrix(matrix)
        slicer.util.updateVolumeFromArray(volume, self.voxels)
        self.node = self.core.scene.AddNewNodeByClass("vtkMRMLSegmentationNode")
        self.node.CreateDefaultDisplayNodes()
        self.node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
        for segment in self.labels.segments:
            mask = (self.labels.labels == segment.label).astype(np.uint8)
            image = slicer.vtkOrientedImageData()
            image.SetImageToWorldMatrix(matrix)
            image.SetDimensions(mask.shape[::-1])
            image.GetPointData().SetScalars(numpy_to_vtk(mask.ravel(), deep=True))
            self.node.AddSegmentFromBinaryLabelmapRepresentation(image, segment.name, (1.0, 0.5, 0.0))

    def segmentation(self) -> None:
        """A BINARY SEG by highdicom from the label map (its quick way; a 4D stack takes ten times as long), saved."""
        from pydicom.uid import ExplicitVRLittleEndian

        segmentation = make_segmentation(self.images, self.labels, "BINARY", ExplicitVRLittleEndian)
        self.path = self.folder / "segmentation.dcm"
        segmentation.save_as(self.path)

    def send(self) -> None:
        """C-STORE; the peer's status is all the proof there is."""
        from pydicom import dcmread
        from pynetdicom import AE

        dataset = dcmread(self.path)
        entity = AE(self.endpoint.calling_ae_title)
        entity.add_requested_context(dataset.SOPClassUID, dataset.file_meta.TransferSyntaxUID)
        association = entity.associate(self.endpoint.host, self.endpoint.port, ae_title=self.endpoint.ae_title)
        status = association.send_c_store(dataset)
        association.release()
        if status.Status != 0x0000:
            raise RuntimeError(f"C-STORE ended with status 0x{status.Status:04X}")

    def segment_voxels(self) -> list[int]:
        """Return how many voxels the node has in each segment."""
        from vtk.util.numpy_support import vtk_to_numpy

        inside = self.node.GetSegmentation()
        layers = (
            inside.GetNthSegment(n).GetRepresentation("Binary labelmap") for n in range(len(self.labels.segments))
        )
        return [int(np.count_nonzero(vtk_to_numpy(layer.GetPointData().GetScalars()))) for layer in layers]


def make_segmentation(images: list[Any], labels: LabelVolume, encoding: str, transfer_syntax_uid: str) -> Any:
    """Return highdicom's segmentation of a label map, called plainly."""
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.seg import Segmentation, SegmentDescription
    from highdicom.sr import CodedConcept
    from pydicom.uid import generate_uid

    algorithm = AlgorithmIdentificationSequence(
        name="Benchmark", version="1", family=CodedConcept("123110", "DCM", "Artificial Intelligence")
    )
    return Segmentation(
        source_images=images,
        pixel_array=labels.labels,
        segmentation_type=encoding,
        segment_descriptions=[
            SegmentDescription(
                segment_number=segment.label,
                segment_label=segment.name,
                segmented_property_category=CodedConcept("123037004", "SCT", "Anatomical Structure"),
                segmented_property_type=CodedConcept("113343008", "SCT", "Organ"),
                algorithm_type="AUTOMATIC",
                algorithm_identification=algorithm,
            )
            for segment in labels.segments
        ],
        series_instance_uid=generate_uid(),
        series_number=100,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="Benchmark",
        manufacturer_model_name="Benchmark",
        software_versions="1",
        device_serial_number="1",
        transfer_syntax_uid=transfer_syntax_uid,
    )
