"""Progress on the terminal: what it asks about may go away while it asks."""

from __future__ import annotations

import threading

import pytest

from shrinkproof.cli.progress import _Asking
from shrinkproof.errors import StoreError


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), StoreError("damaged")])
def test_details_that_cannot_be_read_are_asked_for_again(error: Exception) -> None:
    answers = iter([error, "epoch 1/2"])
    shown: list[str] = []
    told = threading.Event()

    def detail() -> str:
        answer = next(answers, "epoch 1/2")
        if isinstance(answer, Exception):
            raise answer
        return answer

    def show(text: str) -> None:
        shown.append(text)
        told.set()

    asking = _Asking(detail, show, 0.001)
    assert told.wait(10)
    asking.stop()
    assert shown == ["epoch 1/2"]


def test_messages_of_steps_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    from shrinkproof.cli.compress import _tell

    _tell({"message": "a checkpoint is damaged; the training starts from the beginning"})
    _tell({"epoch": 1, "epochs": 2, "loss": 0.5})
    assert capsys.readouterr().err.splitlines() == [
        "note: a checkpoint is damaged; the training starts from the beginning",
        "epoch 1/2, loss 0.5",
    ]
