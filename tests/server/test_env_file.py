"""The one dialect of .env: every line means the same to all readers, or is refused."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st
from vllm_bench import script
from vllm_bench.env_file import EnvFileError, load_env_file, parse_env

ROOT = Path(__file__).resolve().parents[2]

# A line, and the value that python-dotenv and Compose's parser in Go (of 2022 and of 2026) find.
ACCEPTED = [
    ("A=plain", "plain"),
    ("A=", ""),
    ("A=''", ""),
    ('A=""', ""),
    ("\tA=blanks around the line  ", "blanks around the line"),
    ("A=crlf\r", "crlf"),
    ("A='crlf' \r", "crlf"),
    ("A=a=b:c", "a=b:c"),
    ('A=it\'s "bare"', 'it\'s "bare"'),
    ("A=C:\\new", "C:\\new"),
    ("A=`id`; id && (id) | id > id * ~ !", "`id`; id && (id) | id > id * ~ !"),
    ("A=--x '{\"a\": false}'", "--x '{\"a\": false}'"),
    ("A='# $HOME $(id) \"'", '# $HOME $(id) "'),
    ('A="# it\'s"', "# it's"),
    ("A=naïve-模型-🦙", "naïve-模型-🦙"),
    ("A='\u00a0'", "\u00a0"),
    ("A=first\nA=second", "second"),
    ("\n  # a comment with $, \\ and '\n\r\nA=after", "after"),
]
# A line, and a word of the remedy. A comment says how Python (python-dotenv) and Go differ.
REFUSED = [
    ("A s3cret", "NAME=value"),  # Go: a value without a name
    ("s3cret", "NAME=value"),
    ("A: s3cret", "NAME=value"),  # Go: as A=s3cret
    ("=s3cret", "NAME=value"),
    ("1A=s3cret", "NAME=value"),
    ("A-B=s3cret", "NAME=value"),  # Go before 2023: an error, as for the next two
    ("A.B=s3cret", "NAME=value"),
    ("Ä=s3cret", "NAME=value"),
    ("'A'=s3cret", "NAME=value"),  # Python: A, Go: an error
    ("export A=s3cret", "export"),
    ("A =s3cret", "blanks"),
    ("A= s3cret", "blanks"),
    ("A= # s3cret", "blanks"),  # Go of 2026: the comment, Python: nothing
    ("A=\u00a0s3cret", "blanks"),
    ("A='s3cret", "quote"),  # both: on to the next quote, lines further
    ('A="s3cret', "quote"),
    ("A='s3cret' x", "quote"),
    ("A='s3cret' # x", "quote"),
    ("A='s3cret'x'", "quote"),
    ("A='s3cret\\'x'", "quote"),
    ("A='s3cret\\\\'", "backslash"),  # Python: one, Go: two
    ('A="s3cret\\n"', "backslash"),
    ('A="s3cret\\0123"', "backslash"),  # Go of 2026: an S
    ("A='s3cret${HOME}'", "shell"),  # Python: filled in, Go: not
    ("A=s3cret$HOME", "single quotes"),  # Go: filled in, Python: not
    ('A="s3cret$$"', "single quotes"),  # Go: one
    ("A=s3cret # x", "single quotes"),
    ("A=s3cret#x", "single quotes"),  # Go before September 2022: s3cret
    ("A=s3cret\t#x", "single quotes"),  # Go of 2026: all of it
    ("A=s3cret\rB=x", "invisible"),  # Python: two lines
    ("# a comment\rA=s3cret", "invisible"),
    ("A=s3cret\x1f", "invisible"),  # Python: without
    ("A=s3cret\0", "invisible"),
    ("A=s3cret\u00a0", "invisible"),  # both: without
]


def by_python_dotenv(text: str) -> dict[str, str | None]:
    """What Compose v1 takes a file for: it opens it so that a lone \\r ends a line."""
    stream = io.StringIO(text, newline=None)
    return dict(dotenv_values(stream=stream, interpolate=True))


@pytest.mark.parametrize(("text", "value"), ACCEPTED)
def test_an_accepted_line_means_one_thing(text: str, value: str) -> None:
    assert parse_env(text) == by_python_dotenv(text) == {"A": value}


@pytest.mark.parametrize(("line", "remedy"), REFUSED)
def test_a_refused_line_is_named_by_number_and_never_shown(line: str, remedy: str) -> None:
    with pytest.raises(EnvFileError, match=f"^line 3: .*{re.escape(remedy)}") as refusal:
        parse_env(f"# first\nB=1\n{line}\nC=2\n")
    assert "s3cret" not in str(refusal.value)


pieces = st.sampled_from(
    [*"ab1'\"\\$#{}=:;` \t\r\n", "\r\n", "export ", "A=", "B='", "${HOME}", "\x1f", "\u00a0", "é"]
)
values = st.lists(pieces, max_size=6).map("".join)
lines = values | st.builds("{0}={1}{2}{1}".format, st.sampled_from("Ab_"), st.just("'"), values)
lines |= st.builds('{0}="{1}"'.format, st.sampled_from("Ab_"), values)


@given(st.lists(lines, min_size=1, max_size=3).map("\n".join))
def test_whatever_is_accepted_python_dotenv_reads_alike(text: str) -> None:
    try:
        found = parse_env(text)
    except EnvFileError:
        return
    assert found == by_python_dotenv(text)


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30))
def test_nearly_every_value_can_be_written(value: str) -> None:
    quote = '"' if "'" in value else "'"
    hopeless = "${" in value or "\\" in value or (quote == '"' and set('"$') & set(value))
    text = f"A={quote}{value}{quote}"
    if hopeless:
        with pytest.raises(EnvFileError):
            parse_env(text)
    else:
        assert parse_env(text) == by_python_dotenv(text) == {"A": value}


# --- the file ---------------------------------------------------------------------------------


def test_the_environment_wins_and_an_empty_value_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_bytes(b"\xef\xbb\xbfA=file\r\nB=file\r\nC=\r\nD=file\r\nhttps_proxy=p\r\n")
    environ = {"A": "shell", "B": ""}
    assert load_env_file(path, environ) == {"D", "https_proxy"}
    assert environ == {"A": "shell", "B": "", "D": "file", "https_proxy": "p"}


@pytest.mark.parametrize(
    ("line", "shell", "found"),
    [
        ("", None, None),  # as .env.example has it
        ("HF_TOKEN=hf_own", None, "hf_own"),
        ("", "hf_of_the_shell", "hf_of_the_shell"),
        ("", "hf_your_token_here", None),
    ],
)
def test_the_templates_token_is_none_for_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, shell: str | None, found: str | None
) -> None:
    """The hub refuses a token that it doesn't know, for sets that need none."""
    monkeypatch.setattr(script, "ROOT", tmp_path)
    environ = {} if shell is None else {"HF_TOKEN": shell}
    monkeypatch.setattr(os, "environ", environ)
    (tmp_path / ".env").write_text((ROOT / ".env.example").read_text() + line + "\n")
    script.read_env()
    assert environ.get("HF_TOKEN") == found
    assert environ["MODEL"]


def test_no_file_and_a_link_to_none_are_fine(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    assert load_env_file(tmp_path / ".env", {}) == load_env_file(tmp_path / "link", {}) == set()


def test_what_is_no_text_file_is_refused_by_its_path(tmp_path: Path) -> None:
    (tmp_path / "latin").write_bytes(b"A=s3cret\xe9")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path, tmp_path / "latin", tmp_path / "loop"):
        with pytest.raises(EnvFileError, match=f"^{re.escape(str(path))}: ") as refusal:
            load_env_file(path, {})
        assert "s3cret" not in str(refusal.value)


@pytest.mark.process
def test_every_script_that_reads_it_refuses_in_one_line(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "bench", tmp_path / "bench", ignore=shutil.ignore_patterns("__*__"))
    shutil.copy(ROOT / "inspect_prompts.py", tmp_path)
    (tmp_path / ".env").write_text("\nexport HF_TOKEN=s3cret\n")
    for words in ("bench/bench.py --dry-run", "bench/load_real_prompts.py --list",
                  "inspect_prompts.py --dataset sample"):  # fmt: skip
        done = subprocess.run(
            [sys.executable, *words.split()],
            capture_output=True, text=True, check=False, cwd=tmp_path,
        )  # fmt: skip
        assert (done.returncode, done.stdout) == (2, ""), done.stderr
        assert done.stderr.count("\n") == 1
        assert f"{tmp_path / '.env'}, line 2: " in done.stderr
        assert "s3cret" not in done.stderr
