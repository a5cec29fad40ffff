"""An error is one sentence that says what, where, with which status, and what to do."""

import pytest
from AIDicomBridgeLib import BridgeError, JobCancelled
from AIDicomBridgeLib.errors import StoreError


def test_the_text_holds_peer_uid_status_and_advice() -> None:
    error = StoreError("the instance was refused", uid="1.2.3", peer="PACS", status=0xA700, advice="Free space there.")
    assert str(error) == "The instance was refused (at PACS, on 1.2.3, status 0xA700). Free space there."
    assert error.to_dict() == {
        "kind": "StoreError",
        "message": str(error),
        "uid": "1.2.3",
        "peer": "PACS",
        "status": "0xA700",
        "advice": "Free space there.",
    }


def test_a_bare_error_is_still_a_sentence() -> None:
    assert str(BridgeError("nothing matches.")) == "Nothing matches."


@pytest.mark.parametrize(
    "what", ["badtoy.toml: the key name is missing", "/data/ct cannot be read", "timeout_s must be above 0"]
)
def test_names_of_files_and_options_keep_their_small_letter(what: str) -> None:
    assert str(BridgeError(what)) == f"{what}."


def test_a_cancel_is_no_error() -> None:
    assert not issubclass(JobCancelled, BridgeError)
