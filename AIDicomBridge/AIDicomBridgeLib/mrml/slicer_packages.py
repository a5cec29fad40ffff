"""The packages that Slicer does not bring, asked for when they are first needed."""

from importlib.util import find_spec
from pathlib import Path

from ..errors import DependencyError


def ensure_packages(*names: str) -> None:
    """Let Slicer install ``Resources/requirements.txt`` if one of the packages named is missing. Main thread only.

    Slicer asks the person first. Outside Slicer nothing is installed: the step that needs the package names it.

    Raises
    ------
    DependencyError
        The person declined, or the installation failed.
    """
    missing = [name for name in names if find_spec(name) is None]
    if not missing or find_spec("slicer") is None or find_spec("slicer.packaging") is None:
        return
    from slicer.packaging import load_requirements, pip_ensure

    requirements = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
    try:
        pip_ensure(load_requirements(requirements), requester="AIDicomBridge")
    except RuntimeError as error:
        raise DependencyError(
            f"the package {', '.join(missing)} is not installed", advice="Call again and agree to the installation."
        ) from error


def ensure_torch() -> None:
    """Let Slicer's PyTorch extension install torch if it is missing, after asking the person. Main thread only.

    torch comes only from that extension, which chooses the build for the machine's GPU. Outside Slicer nothing is
    installed: the step that needs torch names it.

    Raises
    ------
    DependencyError
        The extension is not installed, or the person declined.
    """
    if find_spec("torch") is not None or find_spec("slicer") is None or find_spec("slicer.packaging") is None:
        return
    if find_spec("PyTorchUtils") is None:
        raise DependencyError(
            "PyTorch is not installed",
            advice="Install the PyTorch extension in Slicer's Extensions Manager, restart, and run the model again.",
        )
    import PyTorchUtils

    if PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True) is None:
        raise DependencyError("PyTorch is not installed", advice="Run the model again and agree to the installation.")
