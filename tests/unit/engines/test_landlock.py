import pytest

from strongroom.engines import landlock


@pytest.mark.parametrize("version", [1, 2, 3, 4, 5])
def test_a_kernel_that_covers_only_a_part_does_not_count_as_achieved(version: int):
    with pytest.raises(OSError, match=f"ABI {version}"):
        landlock.require_whole(version)


@pytest.mark.parametrize("version", [6, 7, 20])
def test_a_kernel_that_covers_all_counts(version: int):
    landlock.require_whole(version)
