"""The packages that Slicer does not bring, asked for when they are first needed."""

from importlib.util import find_spec
from pathlib import Path
from subprocess import CalledProcessError

from ..errors import DependencyError

REQUIREMENTS = Path(__file__).resolve().parents[2] / "Resources" / "requirements.txt"
_FAILED = "Is there a way to the internet, and does Slicer know the proxy? Python's console has pip's own words."


def ensure_packages(*names: str) -> None:
    """Let Slicer install ``Resources/requirements.txt`` if one of the packages named is missing. Main thread only.

    Slicer asks the person first. Outside Slicer nothing is installed: the step that needs the package names it.

    Raises
    ------
    DependencyError
        The person declined, nobody could be asked, or the installation failed.
    """
    missing = [name for name in names if find_spec(name) is None]
    if not missing or find_spec("slicer") is None or find_spec("slicer.packaging") is None:
        return
    from slicer.packaging import load_requirements, pip_ensure

    what = f"the package {', '.join(missing)} is not installed"
    try:
        pip_ensure(load_requirements(REQUIREMENTS), requester="AIDicomBridge")
    except RuntimeError as error:
        advice = "Call again and agree to the installation."
        if _nobody_was_asked():
            advice = f'Run once: PythonSlicer -m pip install -r "{REQUIREMENTS}"'
        raise DependencyError(what, advice=advice) from error
    except CalledProcessError as error:
        raise DependencyError(
            f"{what}, and its installation failed", status=f"pip {error.returncode}", advice=_FAILED
        ) from error


def ensure_torch() -> None:
    """Let Slicer's PyTorch extension install torch if it is missing, after asking the person. Main thread only.

    torch comes only from that extension, which chooses the build for the machine's GPU. Outside Slicer nothing is
    installed: the step that needs torch names it.

    Raises
    ------
    DependencyError
        The extension is not installed, the person declined, nobody could be asked, or the installation failed.
    """
    if find_spec("torch") is not None or find_spec("slicer") is None or find_spec("slicer.packaging") is None:
        return
    what = "PyTorch is not installed"
    if find_spec("PyTorchUtils") is None:
        raise DependencyError(
            what,
            advice="Install the PyTorch extension in Slicer's Extensions Manager, restart, and run the model again.",
        )
    import PyTorchUtils

    try:
        installed = PyTorchUtils.PyTorchUtilsLogic().installTorch(askConfirmation=True)
    except CalledProcessError as error:
        raise DependencyError(
            f"{what}, and its installation failed", status=f"pip {error.returncode}", advice=_FAILED
        ) from error
    if installed is None:
        advice = "Run the model again and agree to the installation."
        if _nobody_was_asked():
            advice = "Install it once in Slicer's window: module PyTorch Util, Install PyTorch."
        raise DependencyError(what, advice=advice)


def _nobody_was_asked() -> bool:
    """Return whether Slicer runs without its window: its question then counts as declined, unseen."""
    import slicer

    return slicer.util.mainWindow() is None
