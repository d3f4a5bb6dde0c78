"""Promise: `crow-sim` renders, transcodes and serves, and says in one line what is wrong."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import av
import click
import pytest
from click.testing import CliRunner, Result

from crow_sim.cli import main

CROW_SIM = Path(sys.executable).with_name("crow-sim")


def crow_sim(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@contextlib.contextmanager
def serving(*arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """The command as a process of its own, which is gone at the end whatever happened."""
    command = [str(CROW_SIM), "serve", *(str(argument) for argument in arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("view", "codec"), [("aisle", "h264"), ("till", "hevc")])
def test_render_writes_the_clip_and_its_truth(tmp_path: Path, view: str, codec: str) -> None:
    out = tmp_path / "new" / "clip.mp4"
    done = crow_sim("render", "--view", view, "--seconds", 1, "--fps", 4, "--codec", codec, "--out", out)
    assert (done.exit_code, done.output) == (0, f"{out}, {out}.truth.jsonl\n")
    with av.open(str(out)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height, stream.frames) == (codec, 1280, 720, 4)
    lines = [json.loads(line) for line in Path(f"{out}.truth.jsonl").read_text().splitlines()]
    assert [line["time_s"] for line in lines] == [0.0, 0.25, 0.5, 0.75]


def test_render_gives_the_same_clip_for_the_same_seed_only(tmp_path: Path) -> None:
    seeds = {"one": 1, "again": 1, "other": 2}
    for name, seed in seeds.items():
        out = tmp_path / f"{name}.mp4"
        assert crow_sim("render", "--seconds", 1, "--fps", 2, "--seed", seed, "--out", out).exit_code == 0
    one, again, other = ((tmp_path / f"{name}.mp4").read_bytes() for name in seeds)
    assert one == again
    assert one != other


def test_render_disturbs_the_picture_as_asked_and_leaves_the_truth_alone(tmp_path: Path) -> None:
    disturbances = {"plain": (), "all": ("--drift", 0.2, "--switch-at", 0.5, "--noise", 8, "--rain", 60)}
    for name, asked in disturbances.items():
        out = tmp_path / f"{name}.mp4"
        assert crow_sim("render", "--seconds", 1, "--fps", 2, *asked, "--out", out).exit_code == 0
    assert (tmp_path / "plain.mp4").read_bytes() != (tmp_path / "all.mp4").read_bytes()
    plain, disturbed = (Path(f"{tmp_path / name}.mp4.truth.jsonl").read_text() for name in disturbances)
    assert plain == disturbed


def test_transcode_writes_a_clip_that_serve_takes(streams: dict[str, Path], tmp_path: Path) -> None:
    target = tmp_path / "new" / "target.mp4"
    done = crow_sim("transcode", streams["hevc"], target)
    assert (done.exit_code, done.output) == (0, f"{target}\n")
    with av.open(str(target)) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_transcode_says_in_one_line_that_a_file_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no video")
    done = crow_sim("transcode", tmp_path / "notes.txt", tmp_path / "target.mp4")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert "notes.txt" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("mount", ["aisle", "aisle=", "=clip.mp4"])
def test_serve_refuses_a_mount_that_is_not_name_and_file(mount: str) -> None:
    done = crow_sim("serve", "--port", 0, "--mount", mount)
    assert done.exit_code == 2
    assert "NAME=FILE" in done.stderr


def test_serve_refuses_a_file_that_is_missing_and_one_of_another_codec(tmp_path: Path) -> None:
    missing = crow_sim("serve", "--port", 0, "--mount", f"aisle={tmp_path / 'missing.mp4'}")
    assert (missing.exit_code, "missing.mp4" in missing.stderr) == (2, True)
    old = tmp_path / "old.mp4"
    with av.open(str(old), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux([*stream.encode(av.VideoFrame(64, 48, "yuv420p")), *stream.encode(None)])
    other = crow_sim("serve", "--port", 0, "--mount", f"aisle={old}")
    assert other.exit_code == 2
    assert "crow-sim transcode" in other.stderr
    assert "transcode" in main.commands


def test_serve_says_that_its_port_is_taken(streams: dict[str, Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = crow_sim("serve", "--port", taken.getsockname()[1], "--mount", f"aisle={streams['h264']}")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: cannot listen")


def test_serve_plays_until_it_is_interrupted_even_with_a_player_watching(streams: dict[str, Path]) -> None:
    mounts = ("--mount", f"aisle={streams['h264']}", "--mount", f"till={streams['larger']}")
    with serving("--port", 0, *mounts) as process:
        assert process.stdout is not None
        urls = [process.stdout.readline().strip() for _ in range(2)]
        assert [urlsplit(url).path for url in urls] == ["/aisle", "/till"]
        with av.open(urls[1], options={"rtsp_transport": "tcp", "timeout": "5000000"}) as container:
            assert next(container.decode(video=0)).width == 320
            process.send_signal(signal.SIGINT)
            output, errors = process.communicate(timeout=10)
        assert (process.returncode, output, errors) == (0, "", "stopped\n")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", urlsplit(urls[0]).port or 0), timeout=5)


@pytest.mark.parametrize("name", sorted(main.commands))
def test_every_command_and_option_has_help(name: str) -> None:
    command = main.commands[name]
    assert command.help
    assert command.help.splitlines()[0] in crow_sim(name, "--help").output.replace("\n  ", " ")
    assert all(option.help for option in command.params if isinstance(option, click.Option))
