"""What is sent is what lies there, in the transfer syntax that the peer takes, or is refused by name."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from AIDicomBridgeLib.errors import BadDicomError
from AIDicomBridgeLib.pacs.outgoing import read_outgoing
from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from synthetic import body_phantom, make_series, save_series


@pytest.mark.parametrize(
    ("stored", "sent"),
    [(ExplicitVRLittleEndian, ImplicitVRLittleEndian), (ImplicitVRLittleEndian, ExplicitVRLittleEndian)],
)
def test_a_data_set_is_converted_without_loss(stored: str, sent: str) -> None:
    image = make_series(body_phantom((1, 16, 20)))[0]
    image.file_meta.TransferSyntaxUID = stored
    code = Dataset()
    code.CodeMeaning = "Schädel"
    image.ProcedureCodeSequence = [code, code]
    (item,) = read_outgoing([image])

    converted = read_dataset(BytesIO(item.encoded_dataset(sent)), sent == ImplicitVRLittleEndian, True)

    assert {element.tag: element.value for element in converted} == {element.tag: element.value for element in image}


@pytest.mark.parametrize("sent", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_big_endian_words_are_turned_around(sent: str) -> None:
    image = make_series(body_phantom((1, 16, 20)))[0]
    pixels = image.PixelData
    reals = Dataset()
    reals.add_new("FloatPixelData", "OF", np.float32([1.5, -2]).astype(">f4").tobytes())
    image.ReferencedImageSequence = [reals]
    image.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    image.PixelData = np.frombuffer(pixels, "<i2").astype(">i2").tobytes()
    image._is_little_endian = image._is_implicit_VR = None
    (item,) = read_outgoing([image])

    converted = read_dataset(BytesIO(item.encoded_dataset(sent)), sent == ImplicitVRLittleEndian, True)

    assert converted.PixelData == pixels
    assert converted.Rows == 16
    assert converted.ReferencedImageSequence[0].FloatPixelData == np.float32([1.5, -2]).tobytes()


def test_a_file_that_is_gone_meanwhile_is_a_named_error(tmp_path: Path) -> None:
    (path,) = save_series(make_series(body_phantom((1, 8, 8))), tmp_path)
    (item,) = read_outgoing([path])
    path.unlink()

    with pytest.raises(BadDicomError, match="cannot be read") as caught:
        item.encoded_dataset()
    assert caught.value.uid == item.sop_instance_uid
