"""How much a store may take of its disk."""

import shutil
from pathlib import Path

from ..errors import DiskSpaceError

FREE_FLOOR_BYTES = 512 * 2**20


class DiskLimits:
    """The limits of one store.

    Parameters
    ----------
    folder
        On the disk that counts.
    quota_bytes
        Most that all instances together may take; None for no limit.
    free_floor_bytes
        What must stay free on the disk.
    """

    def __init__(self, folder: Path, quota_bytes: int | None, free_floor_bytes: int) -> None:
        self._folder = folder
        self._quota_bytes = quota_bytes
        self._free_floor_bytes = free_floor_bytes

    @property
    def has_quota(self) -> bool:
        """Whether it matters how much is used."""
        return self._quota_bytes is not None

    def check(self, used_bytes: int, more_bytes: int = 0) -> int:
        """Return how many bytes may still be written.

        Parameters
        ----------
        used_bytes
            Of all instances together, those that are arriving among them.
        more_bytes
            Still to be written.

        Raises
        ------
        DiskSpaceError
            A limit would be crossed.
        """
        free = shutil.disk_usage(self._folder).free
        left = free - self._free_floor_bytes
        if left < more_bytes:
            raise DiskSpaceError(
                f"only {free / 2**20:.0f} MiB are free where the instances are stored, and"
                f" {self._free_floor_bytes / 2**20:.0f} MiB must stay free",
                advice="Free some space, or choose a folder on another disk.",
            )
        if self._quota_bytes is not None:
            left = min(left, self._quota_bytes - used_bytes)
            if left < more_bytes:
                raise DiskSpaceError(
                    f"the folder's quota of {self._quota_bytes / 2**20:.0f} MiB would be exceeded",
                    advice="Remove studies that are no longer needed, or raise the quota.",
                )
        return left
