"""The real module file in the look-alike shell: its Logic takes nodes and gives nodes."""

import re
import subprocess
import sys
import types
import unittest
from contextlib import nullcontext
from pathlib import Path

import AIDicomBridgeLib
import numpy as np
import pytest
from AIDicomBridgeLib.errors import ConflictError, DependencyError, GeometryError, IncompleteError, NotFoundError
from AIDicomBridgeLib.mrml.core_scene import has_slicer_core
from AIDicomBridgeLib.mrml.self_test import SelfTest
from AIDicomBridgeLib.mrml.slicer_packages import ensure_packages
from AIDicomBridgeLib.pacs.records import InstanceOutcome, Outcome, RetrieveReport
from AIDicomBridgeLib.panel.self_test import PanelSelfTest
from shell import import_module_file, open_shell

from .conftest import organ_labels


@pytest.fixture
def module():
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")
    with open_shell():
        yield import_module_file()


@pytest.fixture
def logic(module):
    return module.AIDicomBridgeLogic()


class PhantomModel:
    """A model that knows the phantom's organs by heart."""

    card = types.SimpleNamespace(unit_is_suv=lambda modality, shown_as_suv: shown_as_suv)

    def segment(self, volume, *, any_body_part=False, memory_limit_bytes=None):
        return organ_labels(volume)


@pytest.fixture
def phantom_model(monkeypatch):
    monkeypatch.setattr(AIDicomBridgeLib, "load_model", lambda *_, **__: PhantomModel(), raising=False)


def test_the_module_describes_itself(module, monkeypatch):
    import slicer

    connected = []
    application = types.SimpleNamespace(connect=lambda signal, _: connected.append(signal))
    monkeypatch.setattr(slicer, "app", application, raising=False)
    parent = types.SimpleNamespace()
    module.AIDicomBridge(parent)
    assert parent.title == "AIDicomBridge"
    assert parent.categories
    assert "not for diagnostic use" in parent.helpText
    assert connected == ["startupCompleted()"]


def test_the_modules_own_test_passes(module):
    """As "Reload and Test" runs it."""
    module.AIDicomBridgeTest().runTest()


def test_ctest_finds_the_modules_own_tests(module):
    names = unittest.TestLoader().getTestCaseNames(module.AIDicomBridgeTest)
    assert "test_whole_loop" in names
    shared = {name for one in (SelfTest, PanelSelfTest) for name in vars(one) if name.startswith("test_")}
    assert set(names) == shared | {"test_terminology_navigator"}


def test_from_files_to_a_segmentation_node(logic, ct_files, phantom_model):
    import slicer

    volume_node = logic.loadSeries(ct_files)
    segmentation_node = logic.segment(volume_node, "phantom")
    assert volume_node.GetScene() is slicer.mrmlScene
    assert segmentation_node.GetClassName() == "vtkMRMLSegmentationNode"
    segmentation = segmentation_node.GetSegmentation()
    assert [segmentation.GetNthSegment(n).GetName() for n in range(3)] == ["Bone", "Right lung", "Left lung"]
    layer = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentation_node, "Segment_5")
    assert (slicer.util.arrayFromVolume(volume_node)[layer == 5] == -850).all()


def test_one_echo_of_several_is_loaded_by_its_number(logic, phantom_model, tmp_path):
    """The phantom model knows organs by their grey values: in the first echo only those of the phantom."""
    from synthetic import body_phantom, make_two_echoes, save_series

    files = save_series([make_two_echoes(body_phantom((6, 40, 48)))], tmp_path / "echoes")
    with pytest.raises(GeometryError, match="holds 2 stacks"):
        logic.loadSeries(files)
    nodes = [logic.loadSeries(files, stack=number) for number in (2, 1)]
    sources = [logic.sourceFiles.source_of(node) for node in nodes]
    assert [source.slices[0].frame_number for source in sources] == [7, 1]
    segmentation_node = logic.segment(nodes[1], "phantom")
    paths = logic.exportSegmentation(segmentation_node, tmp_path / "results", outputs=("seg",))
    assert frames_behind(paths[0]) <= {1, 2, 3, 4, 5, 6}


def frames_behind(path):
    from pydicom import dcmread

    groups = dcmread(path).PerFrameFunctionalGroupsSequence
    images = [image for group in groups for item in group.DerivationImageSequence for image in item.SourceImageSequence]
    return {int(image.ReferencedFrameNumber) for image in images}


def test_a_volume_that_was_changed_is_refused_and_measured_as_its_files_are(logic, ct_files, phantom_model, tmp_path):
    import slicer
    from pydicom import dcmread

    volume_node = logic.loadSeries(ct_files)
    segmentation_node = logic.segment(volume_node, "phantom")
    logic.exportSegmentation(segmentation_node, tmp_path / "before", outputs=("sr",))
    slicer.util.arrayFromVolume(volume_node)[0, 0, 0] += 1
    with pytest.raises(ConflictError, match="voxels of the volume node are not those of its DICOM files"):
        logic.segment(volume_node, "phantom")
    slicer.util.arrayFromVolume(volume_node)[:] = 7
    logic.exportSegmentation(segmentation_node, tmp_path / "after", outputs=("sr",))
    reports = [dcmread(next((tmp_path / when).glob("sr-*"))) for when in ("before", "after")]
    values = [[float(v) for v in re.findall(r"Numeric Value .*'([-\d.]+)'", str(report))] for report in reports]
    assert values[0]
    assert values[0] == values[1]


def test_an_edited_segmentation_is_what_is_exported(logic, ct_files, phantom_model, tmp_path):
    import slicer
    from pydicom import dcmread

    volume_node = logic.loadSeries(ct_files[0].parent)
    segmentation_node = logic.segment(volume_node, "phantom")
    layer = slicer.util.arrayFromSegmentInternalBinaryLabelmap(segmentation_node, "Segment_5")
    layer[0, :4, :4] = 5
    paths = logic.exportSegmentation(segmentation_node, tmp_path / "results")
    datasets = [dcmread(path) for path in paths]
    assert {dataset.Modality for dataset in datasets} >= {"SEG", "SR"}
    assert len({dataset.StudyInstanceUID for dataset in datasets}) == 1
    source = logic.sourceFiles.source_of(volume_node)
    back = AIDicomBridgeLib.read_segmentation(paths[0], source)
    assert (back.labels[0, :4, :4] == back.segment("Right lung").label).all()
    names = np.unique(back.labels[layer == 7])
    assert names.tolist() == [back.segment("Left lung").label]


def test_a_segmentation_without_its_volume_is_refused(logic, ct_files, phantom_model, tmp_path):
    import slicer

    volume_node = logic.loadSeries(ct_files)
    segmentation_node = logic.segment(volume_node, "phantom")
    slicer.mrmlScene.RemoveNode(volume_node)
    with pytest.raises(NotFoundError, match="which volume"):
        logic.exportSegmentation(segmentation_node, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_what_is_no_node_is_refused_by_name(logic, ct_files, tmp_path):
    for wrong in (None, "Segmentation", logic.loadSeries(ct_files)):
        with pytest.raises(NotFoundError, match="no vtkMRMLSegmentationNode"):
            logic.exportSegmentation(wrong, tmp_path / "results")
    with pytest.raises(NotFoundError, match="no vtkMRMLScalarVolumeNode"):
        logic.segment(None, "ct-tissues")


@pytest.fixture
def archive(ct_files, tmp_path):
    """A real archive on loopback that holds the CT."""
    from AIDicomBridgeLib.pacs.archive import Archive
    from AIDicomBridgeLib.series.instance_store import InstanceStore

    with InstanceStore(tmp_path / "archive") as store, Archive(store) as running:
        for path in ct_files:
            store.add_file(path)
        yield running


def test_the_whole_loop_from_the_console(logic, archive, tmp_path):
    endpoint = archive.endpoint
    study = logic.find(endpoint.address, accession_number="SYN0001")[0]
    (series,) = logic.findSeries(endpoint, study.study_uid)
    paths = logic.retrieve(endpoint, study.study_uid, series.series_uid, folder=tmp_path / "store")
    volume_node = logic.loadSeries(paths)
    segmentation_node = logic.segment(volume_node, "ct-tissues", device="cpu")
    results = logic.exportSegmentation(segmentation_node, tmp_path / "results", outputs=("seg", "sr"))
    assert logic.send(endpoint, results).complete
    modalities = {found.modality for found in logic.findSeries(endpoint, study.study_uid)}
    assert modalities == {"CT", "SEG", "SR"}


def test_a_job_from_the_console(logic, archive, ct_files, tmp_path):
    from pydicom import dcmread

    study_uid = str(dcmread(ct_files[0]).StudyInstanceUID)
    address = archive.endpoint.address
    done = logic.runJob(address, study_uid, "ct-tissues", [address], outboxFolder=tmp_path / "outbox", device="cpu")
    assert done.complete
    assert {instance.attributes["Modality"] for instance in archive.store.instances(study_uid)} >= {"CT", "SEG", "SR"}


class ForgetfulClient:
    """Stands in for a PACS that lists twelve instances and gives ten."""

    def retrieve(self, *_, **__):
        outcomes = [InstanceOutcome(f"1.2.{n}", Outcome.RECEIVED) for n in range(10)]
        outcomes += [InstanceOutcome(f"1.2.{n}", Outcome.MISSING, "0xA701") for n in range(10, 12)]
        return RetrieveReport("ARCHIVE", tuple(outcomes))


def test_an_incomplete_retrieve_is_an_error(logic, monkeypatch, tmp_path):
    monkeypatch.setattr(AIDicomBridgeLib, "connect", lambda _: nullcontext(ForgetfulClient()), raising=False)
    with pytest.raises(IncompleteError, match=r"2 of 12 .*0xA701"):
        logic.retrieve(object(), "1.2.3", folder=tmp_path / "store")


@pytest.fixture
def packaging(monkeypatch):
    """Return a stand-in for ``slicer.packaging``, which slicer-core does not have."""
    import slicer

    stand_in = types.ModuleType("slicer.packaging")
    stand_in.__spec__ = types.SimpleNamespace(name="slicer.packaging")
    stand_in.load_requirements = lambda path: Path(path).read_text().split()
    monkeypatch.setitem(sys.modules, "slicer.packaging", stand_in)
    monkeypatch.setattr(slicer, "packaging", stand_in, raising=False)
    monkeypatch.setattr(slicer.util, "mainWindow", lambda: "a window")
    return stand_in


def test_slicer_is_asked_for_a_missing_package_only(module, packaging):
    asked = []
    packaging.pip_ensure = lambda requirements, requester: asked.append((requirements, requester))
    ensure_packages("numpy")
    assert asked == []
    ensure_packages("numpy", "no_such_package")
    requirements, requester = asked[0]
    assert requester == "AIDicomBridge"
    assert any(line.startswith("pynetdicom>=") for line in requirements)


def test_a_declined_installation_is_a_named_error(module, packaging):
    def decline(requirements, requester):
        raise RuntimeError("declined")

    packaging.pip_ensure = decline
    with pytest.raises(DependencyError, match="no_such_package"):
        ensure_packages("no_such_package")


def test_a_failed_installation_says_what_may_be_in_the_way(module, packaging):
    def fail(requirements, requester):
        raise subprocess.CalledProcessError(2, "pip install")

    packaging.pip_ensure = fail
    with pytest.raises(DependencyError, match=r"no_such_package.*installation failed \(status pip 2\).*proxy"):
        ensure_packages("no_such_package")


@pytest.fixture
def torch_extension(monkeypatch):
    """Stand in for Slicer's PyTorch extension on a machine that lacks torch; note its questions and decline."""
    from AIDicomBridgeLib.mrml import slicer_packages

    asked = []
    extension = types.ModuleType("PyTorchUtils")
    extension.__spec__ = types.SimpleNamespace(name="PyTorchUtils")
    extension.PyTorchUtilsLogic = lambda: types.SimpleNamespace(installTorch=lambda **how: asked.append(how))
    monkeypatch.setitem(sys.modules, "PyTorchUtils", extension)
    found = slicer_packages.find_spec
    monkeypatch.setattr(slicer_packages, "find_spec", lambda name: None if name == "torch" else found(name))
    return asked


def test_the_console_has_the_extension_install_torch(logic, ct_files, packaging, torch_extension, tmp_path):
    for run in (
        lambda: logic.segment(logic.loadSeries(ct_files), "ct-tissues"),
        lambda: logic.runJob(
            "dimse://ARCHIVE@127.0.0.1:1", "1.2.3", "ct-tissues", [], outboxFolder=tmp_path / "outbox"
        ),
    ):
        torch_extension.clear()
        with pytest.raises(DependencyError, match="agree to the installation"):
            run()
        assert torch_extension == [{"askConfirmation": True}]


def test_importing_the_module_file_imports_nothing_heavy():
    """Slicer imports every module at start: torch, pynetdicom and the like must wait for their first use."""
    if not has_slicer_core():
        pytest.skip("slicer-core is not installed")
    program = (
        "import sys; from shell import open_shell, import_module_file\n"
        "with open_shell():\n"
        "    import_module_file().AIDicomBridgeLogic()\n"
        "print(sorted({'torch', 'pynetdicom', 'highdicom', 'SimpleITK', 'dicomweb_client'} & set(sys.modules)))\n"
    )
    root = Path(__file__).parents[3]
    places = [str(root / "AIDicomBridge"), str(root / "Testing" / "Python")]
    command = [sys.executable, "-c", f"import sys; sys.path[:0] = {places}\n{program}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
