"""Which part of the body an image shows, as a code (CID 4031), from what its header says."""

from typing import TYPE_CHECKING

from .codes import coded_concept, is_complete_code, read_code
from .labels import Code

if TYPE_CHECKING:
    from pydicom import Dataset

# By Body Part Examined (PS3.16 Annex L).
_REGIONS = {
    "ABDOMEN": Code("818981001", "SCT", "Abdomen"),
    "ABDOMENPELVIS": Code("818982008", "SCT", "Abdomen and Pelvis"),
    "BLADDER": Code("89837001", "SCT", "Bladder"),
    "BRAIN": Code("12738006", "SCT", "Brain"),
    "BREAST": Code("76752008", "SCT", "Breast"),
    "CHEST": Code("816094009", "SCT", "Chest"),
    "CHESTABDOMEN": Code("416550000", "SCT", "Chest and Abdomen"),
    "CHESTABDPELVIS": Code("416775004", "SCT", "Chest, Abdomen and Pelvis"),
    "CSPINE": Code("122494005", "SCT", "Cervical spine"),
    "EXTREMITY": Code("66019005", "SCT", "Extremity"),
    "HEAD": Code("69536005", "SCT", "Head"),
    "HEADNECK": Code("774007", "SCT", "Head and Neck"),
    "HEART": Code("80891009", "SCT", "Heart"),
    "HIP": Code("29836001", "SCT", "Hip"),
    "KIDNEY": Code("64033007", "SCT", "Kidney"),
    "KNEE": Code("72696002", "SCT", "Knee"),
    "LIVER": Code("10200004", "SCT", "Liver"),
    "LSPINE": Code("122496007", "SCT", "Lumbar spine"),
    "LUNG": Code("39607008", "SCT", "Lung"),
    "NECK": Code("45048000", "SCT", "Neck"),
    "PANCREAS": Code("15776009", "SCT", "Pancreas"),
    "PELVIS": Code("816092008", "SCT", "Pelvis"),
    "PROSTATE": Code("41216001", "SCT", "Prostate"),
    "SHOULDER": Code("16982005", "SCT", "Shoulder"),
    "SPINE": Code("421060004", "SCT", "Spine"),
    "SPLEEN": Code("78961009", "SCT", "Spleen"),
    "TSPINE": Code("122495006", "SCT", "Thoracic spine"),
}
_SOMEWHERE = Code("38266002", "SCT", "Entire body")  # no organ is guessed


def frame_anatomy(header: "Dataset") -> "Dataset":
    """Return an item of Frame Anatomy Sequence (PS3.3 C.7.6.16.2.8) for what the header of a source says.

    The region is the header's own code, else that of its Body Part Examined, else the entire body.
    """
    from pydicom import Dataset

    stated = [item for item in header.get("AnatomicRegionSequence") or [] if is_complete_code(item)]
    part = str(header.get("BodyPartExamined") or "").upper()
    side = str(header.get("FrameLaterality") or header.get("ImageLaterality") or header.get("Laterality") or "")
    item = Dataset()
    item.AnatomicRegionSequence = [coded_concept(read_code(stated[0]) if stated else _REGIONS.get(part, _SOMEWHERE))]
    item.FrameLaterality = side if side in ("R", "L", "B") else "U"
    return item
