"""How every command ends."""

from __future__ import annotations

import pytest

from shared import console
from shared.errors import MixedInstallation, RunAbandoned, StudyError


@pytest.mark.parametrize(("error", "code"), [(StudyError("no such key"), 2), (RunAbandoned("too few sites"), 3)])
def test_an_error_of_ours_is_one_message_and_its_exit_code(
    error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def app() -> None:
        raise error

    with pytest.raises(SystemExit) as stopped:
        console.run(app)
    assert stopped.value.code == code
    assert tuple(capsys.readouterr()) == ("", f"error: {error}\n")


def test_a_mixed_installation_stops_a_command_before_it_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def mixed() -> None:
        raise MixedInstallation("shared from two folders")

    begun: list[bool] = []
    monkeypatch.setattr(console, "require_one_root", mixed)
    with pytest.raises(SystemExit) as stopped:
        console.run(lambda: begun.append(True))
    assert (stopped.value.code, begun) == (2, [])
    assert capsys.readouterr().err == "error: shared from two folders\n"
