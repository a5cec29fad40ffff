"""The calls by name, for Slicer's process: to look at them themselves it would have to import the whole engine.

A test holds the table to :class:`~.calls.Calls`.
"""

from collections.abc import Mapping

# Arguments with "?" may be left out; "**" stands for any others.
CALLS = {
    "verify": "endpoint",
    "diagnose": "endpoint store_test_object?",
    "find_studies": "endpoint **",
    "find_series": "endpoint study_uid",
    "retrieve": "endpoint study_uid series_uid? folder",
    "instances": "folder study_uid series_uid",
    "source": "files",
    "stacks": "paths",
    "read": "files",
    "segment": "files run any_body_part? subject?",
    "plan": "files run subject?",
    "release": "",
    "fetch_weights": "model from_file?",
    "programs": "model",
    "export": "files layers provenance? folder outputs? profile? endpoint? series_description?",
    "put": "files endpoint outbox_folder",
    "deliver": "endpoint outbox_folder only?",
    "redirect": "ids endpoint outbox_folder",
    "discard": "ids outbox_folder",
    "subjects": "files",
    "outbox": "outbox_folder",
}


def refuse_wrong_call(call: str, arguments: Mapping[str, object]) -> None:
    """Raise TypeError if there is no such call, or if it does not take these arguments."""
    if call not in CALLS:
        raise TypeError(f"the worker has no call {call!r}")
    wanted = CALLS[call].split()
    known = {name.rstrip("?") for name in wanted}
    missing = {name for name in wanted if not name.endswith("?") and name != "**"} - set(arguments)
    unknown = set(arguments) - known if "**" not in wanted else set()
    if missing or unknown:
        raise TypeError(f"the call {call!r} lacks {sorted(missing)} and does not know {sorted(unknown)}")
