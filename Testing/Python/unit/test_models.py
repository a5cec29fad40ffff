"""Cards name the key that is wrong; weights are used only when they are exactly those of the card."""

import hashlib
import tomllib
import zipfile
from pathlib import Path

import pytest
from AIDicomBridgeLib import Catalogue, ModelCard, load_model
from AIDicomBridgeLib.errors import ModelError, WeightsError
from AIDicomBridgeLib.models.catalogue import SHIPPED_CARDS
from AIDicomBridgeLib.models.weights import WeightsFolder

MINDGRAB = (SHIPPED_CARDS / "mindgrab.toml").read_text()


def test_shipped_cards_are_valid_and_coded_as_pydicom_knows_them() -> None:
    from pydicom.sr.codedict import codes

    catalogue = Catalogue.load()
    assert {"ct-tissues", "lungmask-r231", "mindgrab"} <= set(catalogue.names())
    known = {getattr(codes.SCT, name).value for name in codes.SCT.dir()}
    for card in catalogue.values():
        for segment in card.segments:
            assert segment.type.value in known
            assert segment.category.value in known


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('title = "MindGrab brain extraction"', "", "lacks the key 'title'"),
        ('version = "0.1.16"', "version = 1", "'version' must be of type str"),
        ('orientation = "LIA"', 'orientation = "LLA"', "'orientation'"),
        ("spacing_mm = [1.0, 1.0, 1.0]", "spacing_mm = [1.0, 1.0]", "'spacing_mm'"),
        ('rule = "percentiles"', 'rule = "percentile"', '\'rule\' must be one of "window", "percentiles"'),
        ("high = 98", "high = 1", "'low' and 'high' are out of range"),
        ("high = 98", "", "lacks the key 'high'"),
        (
            'architecture = "meshnet"',
            'architecture = "unet"',
            '\'architecture\' must be one of "meshnet", "lungmask-unet"',
        ),
        ("classes = 2", "classes = 3", "3 classes need 2"),
        ("classes = 2", "classes = 1", '1 classes need 0.*With activation = "softmax".* with "sigmoid" none'),
        ("[weights.package]", "[windows]\npatch = [1]\n[weights.package]", "'patch' must be"),
        ("[weights.package]", "[windows]\npatch = [8, 8]\ntiling = 'x'\n[weights.package]", "'tiling' must be one of"),
        ("[weights.package]", "[output]\nactivation = 'tanh'\n[weights.package]", "'activation' must be one of"),
        ("size = 587188", "size = 587188\nurls = ['http://example.org/x']", "'urls' must begin with https"),
        ('format = "safetensors"', 'format = "pickle"', "'format' must be one of"),
        ("channels = 15", "chanels = 15", "has the unknown key 'chanels'. Do you mean 'channels'[?]$"),
        ("licence = ", "license = ", "card.toml has the unknown key 'license'. Do you mean 'licence'[?]$"),
        ("low = ", "lower = ", r"intensity\]\] 2 has the unknown key 'lower'. Do you mean 'low'[?]$"),
        ("channels = 15", "channels = 15\nclases = 1", "unknown key 'clases'. Its keys are: "),
        (
            "[weights.package]",
            "[output]\ntreshold = 0.3\n[weights.package]",
            "'treshold'. Do you mean 'threshold'[?] Its",
        ),
        ("channels = 15", "channels = 15\nextra = 1", "unknown key 'extra'.*Its keys are: architecture"),
        ("label = 1", "label = 2", r"\[\[segments\]\] must be counted from 1, and are 2\.$"),
        (MINDGRAB[MINDGRAB.index("[[segments]]") :], "", r"card\.toml needs \[\[segments\]\]"),
        (
            'modalities = ["MR", "CT"]',
            'modalities = ["MRI"]',
            r"card.toml \[conditions\]: 'modalities'.*\"MR\" \(MRI\)",
        ),
        ('modalities = ["MR", "CT"]', "modalities = []", "'modalities' must be a list of"),
        ("color_rgb = [250, 170, 110]", "color_rgb = [250, 170, 300]", "'color_rgb'"),
        ('file = "mindgrab-0.1.16.safetensors"', 'file = "../x.safetensors"', "'file'"),
        ("[network]", "[network", "cannot be read"),
        ("[input]", "[input]\nchannels = 2\nchannel_names = ['T1']", "'channel_names' must name all 2"),
        (
            'value = "12738006"',
            'value = "brain"',
            r"1 \[type\]: 'value' cannot be right: brain is no code of SCT.*99",
        ),
        ('scheme = "SCT", meaning = "Brain"', 'scheme = "A\\\\B", meaning = "Brain"', r"\[type\]: the scheme"),
        ('sha256 = "6f3ec', 'sha256 = "6F3ec', r"package\]: 'sha256' must be 64"),
    ],
)
def test_a_wrong_card_is_refused_with_the_key(tmp_path: Path, old: str, new: str, words: str) -> None:
    assert old in MINDGRAB
    path = tmp_path / "card.toml"
    path.write_text(MINDGRAB.replace(old, new, 1))
    with pytest.raises(ModelError, match=words):
        ModelCard.from_file(path)


def test_body_parts_and_files_are_read_however_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(MINDGRAB.replace('["HEAD", ', '["Head", '), encoding="utf-8-sig")
    assert ModelCard.from_file(tmp_path / "card.toml").body_parts == Catalogue.load()["mindgrab"].body_parts


def test_own_cards_join_the_catalogue_and_unknown_names_list_the_known(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text(MINDGRAB.replace('name = "mindgrab"', 'name = "own"', 1))
    catalogue = Catalogue.load(tmp_path)
    assert catalogue["own"].segments[0].algorithm_name == "own 0.1.16"
    with pytest.raises(ModelError, match=r"Known are: ct-tissues, .*mindgrab, own"):
        catalogue["missing"]


def test_missing_weights_say_how_to_fetch_them(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="models fetch mindgrab"):
        load_model("mindgrab", "cpu", weights_folder=WeightsFolder(tmp_path))


def test_weights_with_another_hash_are_refused_and_nothing_is_kept(tmp_path: Path) -> None:
    card = Catalogue.load()["mindgrab"]
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(b"x" * 587188)
    folder = WeightsFolder(tmp_path / "weights")
    with pytest.raises(WeightsError, match="SHA-256"):
        folder.fetch(card, from_file=wrong)
    assert not folder.folder.exists() or not list(folder.folder.iterdir())
    folder.folder.mkdir(exist_ok=True)
    folder.path(card).write_bytes(wrong.read_bytes())
    with pytest.raises(WeightsError, match="not the one that the card names"):
        load_model(card, "cpu", weights_folder=folder)


def test_weights_come_out_of_a_package_without_installing_it(tmp_path: Path) -> None:
    content = b"weights"
    wheel = tmp_path / "pack.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("brainchop/net.safetensors", content)
    package_sha256 = tomllib.loads(MINDGRAB)["weights"]["package"]["sha256"]
    text = (
        MINDGRAB.replace("size = 587188", f"size = {len(content)}")
        .replace(tomllib.loads(MINDGRAB)["weights"]["sha256"], hashlib.sha256(content).hexdigest())
        .replace(package_sha256, hashlib.sha256(wheel.read_bytes()).hexdigest())
    )
    (tmp_path / "card.toml").write_text(text)
    card = ModelCard.from_file(tmp_path / "card.toml")
    folder = WeightsFolder(tmp_path / "weights")

    path = folder.fetch(card, from_file=wheel)

    assert path.read_bytes() == content
    assert folder.is_present(card)
    wheel.write_bytes(wheel.read_bytes() + b"changed")
    with pytest.raises(WeightsError, match=r"The package pack\.whl has the SHA-256"):
        folder.fetch(card, from_file=wheel)


def test_rules_have_no_weights_to_fetch(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="set of rules"):
        WeightsFolder(tmp_path).fetch(Catalogue.load()["ct-tissues"])


def test_channels_that_compete_begin_with_the_background() -> None:
    assert Catalogue.load()["mindgrab"].decision.values == (0, 1)
