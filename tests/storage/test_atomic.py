"""What a file needs to be on the disk, and what a file system may lack."""

import errno
import os

import pytest

from tism_scan.storage.atomic import sync_path


@pytest.fixture
def failing(monkeypatch):
    """Return a function that has every sync fail from now on."""

    def with_error(number):
        def fail(_descriptor):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "fsync", fail)

    return with_error


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_file_system_that_cannot_sync_folders_is_none_the_worse_but_a_file_has_to_be_synced(
    tmp_path, failing, number
):
    failing(number)
    sync_path(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=os.strerror(number)):
        sync_path(tmp_path / "file")


def test_disk_that_fails_to_sync_a_folder_is_told_of(tmp_path, failing):
    failing(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        sync_path(tmp_path)
