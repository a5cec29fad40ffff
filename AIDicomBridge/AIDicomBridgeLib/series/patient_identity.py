"""What of a patient's name and sex tells patients apart; what else may differ between the images of one patient."""


def folded_name(text: str) -> str:
    """Return a Patient Name to compare; Slicer's loader writes an empty one in words.

    Capitals, blanks around components and empty components at the end mean nothing (PS3.5 section 6.2).
    """
    groups = ("^".join(part.strip() for part in group.split("^")).rstrip("^") for group in text.split("="))
    return "" if text == "No name" else "=".join(groups).rstrip("=").casefold()


def told_sex(text: str) -> str:
    """Return F or M; empty for what tells no patients apart: modalities of one study differ in O, U and nothing."""
    return text.strip() if text.strip() in ("F", "M") else ""
