"""Model files that are programs: which of them may run, and how a person agrees to one."""

import shlex
from pathlib import Path

from ..errors import ConsentError
from ..user_folder import user_folder
from .kept_file import read_kept, write_kept


class Consents:
    """The programs that a person has agreed to run, by their SHA-256; kept in a file that only the person can read.

    TorchScript, ``torch.export`` files and the networks of MONAI bundles are programs: they can read and write files
    as the person who runs them can. One runs only if its SHA-256 stands on a shipped card, or here.

    Parameters
    ----------
    path
        The file; ``default()`` gives the person's own.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def default(cls) -> "Consents":
        """Return the consents in the person's data folder."""
        return cls(user_folder() / "consents.json")

    def has(self, sha256: str) -> bool:
        """Return True if the person has agreed to the file with that SHA-256."""
        return sha256 in self._read()

    def agree(self, sha256: str, name: str) -> None:
        """Remember that the person has agreed to run the file with that SHA-256.

        Raises
        ------
        FolderError
            The file cannot be written.
        """
        write_kept(self.path, self._read() | {sha256: name}, "the consents")

    def refuse_without(self, sha256: str, name: str, asked_as: str) -> None:
        """Raise :class:`ConsentError` if the person has not agreed to the file with that SHA-256.

        ``asked_as`` is what the person called the model ``name``: a path, for example.
        """
        if not self.has(sha256):
            raise ConsentError(
                f"the model {name} is a program, which can do what you can do on this machine, and nobody has agreed "
                f"to run it (SHA-256 {sha256})",
                advice=f"If you trust where it comes from: aidicombridge models trust {shlex.quote(asked_as)}",
            )

    def _read(self) -> dict[str, str]:
        content: dict[str, str] = read_kept(self.path, dict, "the consents")
        return content
