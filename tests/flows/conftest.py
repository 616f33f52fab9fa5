"""What the flows' tests share: one Prefect server, one Ray session and one set of inputs, each made once."""

from collections.abc import Iterator

import pytest
from flow_inputs import FlowInputs, make_inputs
from prefect.settings import PREFECT_API_URL, PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW, temporary_settings
from prefect.testing.utilities import prefect_test_harness


@pytest.fixture(scope="session")
def prefect_server() -> Iterator[str]:
    """The API of a Prefect server with a database of its own; flows and tasks of this process use it."""
    quiet = {PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW: "ignore"}
    with temporary_settings(quiet), prefect_test_harness(server_startup_timeout=120):
        url = PREFECT_API_URL.value()
        assert url is not None
        yield url


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """Whichever test trains first starts Ray; it ends with the tests."""
    yield
    import ray

    ray.shutdown()


@pytest.fixture(scope="class")
def every_file_is_large() -> Iterator[None]:
    """Files of the corpus share no shards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("flows.corpus.groups.LARGE_BYTES", 1)
        yield


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> FlowInputs:
    """Read-only: a test that changes something copies it first."""
    return make_inputs(tmp_path_factory.mktemp("inputs"))
