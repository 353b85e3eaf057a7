"""A machine keeps what it measures in a folder that nobody else can write to."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from vllm_bench.machines.kept.folder import private_folder, usual_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_folder_is_its_users_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        path = private_folder(tmp_path / "deep" / "kept")
    finally:
        os.umask(before)
    assert mode(path) == 0o700
    assert private_folder(path) == path  # again
    assert list(path.iterdir()) == []


@pytest.mark.parametrize("others", [0o701, 0o720, 0o750, 0o777])
def test_a_folder_of_others_is_refused(tmp_path: Path, others: int) -> None:
    path = tmp_path / "kept"
    path.mkdir()
    path.chmod(others)
    with pytest.raises(PermissionError, match=f"{others:04o}"):
        private_folder(path)
    assert mode(path) == others


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    path.mkdir(0o700)
    os.chown(path, 12345, -1)
    with pytest.raises(PermissionError, match="another user"):
        private_folder(path)


def test_neither_a_link_nor_a_file_is_taken(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").write_text("")
    for name in ("link", "file"):
        with pytest.raises(OSError, match="link"):
            private_folder(tmp_path / name)


def test_the_usual_one_is_under_the_users_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    home, state = str(tmp_path / "home"), str(tmp_path / "state")
    temporary = tmp_path / "tmp" / f"vllm-bench-{os.geteuid()}"
    of_home = tmp_path / "home" / ".local" / "state" / "vllm-bench"
    assert usual_folder({"XDG_STATE_HOME": state, "HOME": home}) == tmp_path / "state/vllm-bench"
    assert usual_folder({"XDG_STATE_HOME": "not/from/the/root", "HOME": home}) == of_home
    assert usual_folder({"HOME": home}) == of_home
    assert usual_folder({}) == temporary
    (tmp_path / "nowhere").write_text("a file")
    assert usual_folder({"HOME": str(tmp_path / "nowhere")}) == temporary
    temporary.chmod(0o755)
    with pytest.raises(OSError, match="others"):
        usual_folder({})
