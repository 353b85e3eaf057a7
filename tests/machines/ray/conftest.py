"""One cluster of Ray's for all tests of load that Ray places."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.machines.ray.placing import Place, cluster, has_ray


@pytest.fixture(scope="package")
def somebodys() -> Iterator[Place]:
    """A cluster of three nodes to send from, its head's among them.

    A node of it dies in test_struck.py, which is the last file for that.
    """
    if not has_ray():
        pytest.skip("no Ray here: make install-ray")
    with cluster() as place:
        yield place
