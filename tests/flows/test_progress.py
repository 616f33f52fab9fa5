"""Progress is shown where it can be; work does not end because it cannot."""

import logging
from typing import Any

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import SyncPrefectClient, get_client

from flows import progress as module
from flows.progress import progress


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECONDS_BETWEEN_UPDATES", 0.0)


@flow(persist_result=False)
def work() -> int:
    done = 0
    with progress("train tiny", 3) as advance:
        for _ in range(3):
            advance(1)
            done += 1
    return done


def refused(*_arguments: Any, **_options: Any) -> Any:
    raise httpx.ConnectError("the server is gone")


@pytest.mark.usefixtures("no_waiting")
def test_the_ui_is_told(prefect_server: str) -> None:
    assert work() == 3
    with get_client(sync_client=True) as client:
        (found,) = client.request("POST", "/artifacts/filter", json={"sort": "CREATED_DESC", "limit": 1}).json()
    assert (found["key"], found["type"], found["data"]) == ("train-tiny", "progress", 100.0)


@pytest.mark.usefixtures("no_waiting", "prefect_server")
@pytest.mark.parametrize("method", ["create_artifact", "update_artifact"])
def test_a_server_that_is_gone_is_logged_once_and_ends_nothing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, method: str
) -> None:
    monkeypatch.setattr(SyncPrefectClient, method, refused)
    with caplog.at_level(logging.WARNING, logger="flows"):
        assert work() == 3
    (message,) = [record.getMessage() for record in caplog.records if record.name == "flows.progress"]
    assert message.startswith("train tiny: goes on, but the Prefect UI shows its progress no further")
    assert message.endswith("(ConnectError: the server is gone)")


@pytest.mark.usefixtures("no_waiting")
def test_outside_of_a_flow_no_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SyncPrefectClient, "create_artifact", refused)
    assert work.fn() == 3
