"""Which commit a run says that its code is of."""

import subprocess

from convbert.pretrain.run import environment


def git(folder, *arguments):
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    call = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()


def test_the_commit_is_that_of_these_files_not_of_a_repository_around_them(tmp_path, monkeypatch):
    git(tmp_path, "init")
    (tmp_path / "notes.txt").write_text("mine")
    git(tmp_path, "add", "notes.txt")
    git(tmp_path, "commit", "-m", "Begin")
    file = tmp_path / "site-packages" / "environment.py"
    file.parent.mkdir()
    file.write_text("")
    monkeypatch.setattr(environment, "__file__", str(file))
    assert environment.git_commit() is None  # installed in somebody's project
    assert environment.code_version() != git(tmp_path, "describe", "--always")
    git(tmp_path, "add", str(file))
    git(tmp_path, "commit", "-m", "Add")
    assert environment.git_commit() == git(tmp_path, "rev-parse", "HEAD")
    assert environment.code_version() == git(tmp_path, "describe", "--always")
