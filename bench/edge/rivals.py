"""What a user would run instead: one process for each camera."""

import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from subject import Produced, Running, Subject, end

FFMPEG = ("ffmpeg", "-nostdin", "-loglevel", "error")
_TCP = ("-rtsp_transport", "tcp")
_OUR_SIZE = "896:504"  # what ours scales to; the thrifty ones do so, too, and use one thread
_JPEG = ("-q:v", "3", "{out}/%09d.jpg")  # ffmpeg's scale of 2 to 31; about what quality 85 of libjpeg gives

# As frigate/ffmpeg_presets.py, config/camera/ffmpeg.py and its documentation have it: without hardware, `detect` at
# 5 frames a second of 1280 x 720.
_FRIGATE_SIZE = (1280, 720)
_FRIGATE = (
    *("ffmpeg", "-hide_banner", "-loglevel", "warning", "-threads", "2"),
    *("-user_agent", "FFmpeg Frigate", "-avoid_negative_ts", "make_zero", "-fflags", "+genpts+discardcorrupt"),
    *("-rtsp_transport", "tcp", "-timeout", "10000000", "-use_wallclock_as_timestamps", "1", "-i", "{url}"),
    *("-r", "5", "-vf", "fps=5,scale=1280:720", "-threads", "2", "-f", "rawvideo", "-pix_fmt", "yuv420p", "pipe:"),
)
_FRIGATE_FRAME_BYTES = _FRIGATE_SIZE[0] * _FRIGATE_SIZE[1] * 3 // 2


def rivals(stream: str, cameras: int) -> list[Subject]:
    """All of them on one stream, the one that ours are compared with first."""

    def subject(name: str, interval_s: float, command: Sequence[str]) -> Subject:
        return Subject(name, stream, cameras, interval_s, " ".join(command), partial(_writing_files, command))

    reads = (*_TCP, "-i", "{url}")
    thrifty, small = (*FFMPEG, "-threads", "1"), f"scale={_OUR_SIZE}"
    nokey = ("-skip_frame", "nokey", *reads, "-vsync", "passthrough")
    opencv = (sys.executable, str(Path(__file__).with_name("opencv_rival.py")), "{url}", "{out}")
    return [
        subject("ffmpeg -vf fps=1", 1.0, (*FFMPEG, *reads, "-vf", "fps=1", *_JPEG)),
        subject("ffmpeg fps=1, thrifty", 1.0, (*thrifty, *reads, "-vf", f"fps=1,{small}", *_JPEG)),
        subject("ffmpeg -vf fps=1/5", 5.0, (*FFMPEG, *reads, "-vf", "fps=1/5", *_JPEG)),
        subject("ffmpeg -skip_frame nokey", 1.0, (*FFMPEG, *nokey, *_JPEG)),
        subject("ffmpeg nokey, thrifty", 1.0, (*thrifty, *nokey, "-vf", small, *_JPEG)),
        subject("OpenCV VideoCapture", 1.0, opencv),
        Subject("ffmpeg 5 fps raw (Frigate)", stream, cameras, 0.2, " ".join(_FRIGATE), _piping),
    ]


@contextmanager
def _writing_files(command: Sequence[str], urls: Sequence[str], _: Sequence[str]) -> Iterator[Running]:
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / str(number) for number in range(len(urls))]
        processes = []
        for folder, url in zip(folders, urls, strict=True):
            folder.mkdir()
            processes.append(subprocess.Popen([word.format(url=url, out=folder) for word in command]))

        def produced() -> Produced:
            sizes = [file.stat().st_size for folder in folders for file in folder.iterdir()]
            return Produced(len(sizes), sum(sizes))

        try:
            yield Running([process.pid for process in processes], produced)
        finally:
            end(processes)


@contextmanager
def _piping(urls: Sequence[str], _: Sequence[str]) -> Iterator[Running]:
    processes = [
        subprocess.Popen([word.format(url=url) for word in _FRIGATE], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for url in urls
    ]
    read_bytes = [0] * len(urls)

    def read(number: int) -> None:  # what Frigate does with the pictures is not counted
        pipe = processes[number].stdout
        assert pipe is not None
        while data := pipe.read(1 << 20):
            read_bytes[number] += len(data)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(len(urls))]
    for thread in threads:
        thread.start()
    try:
        yield Running(
            [process.pid for process in processes],
            lambda: Produced(sum(read_bytes) // _FRIGATE_FRAME_BYTES, sum(read_bytes)),
        )
    finally:
        end(processes)
        for thread in threads:
            thread.join()


def ffmpeg_version() -> str:
    """The first line of what it says of itself."""
    said = subprocess.run(["ffmpeg", "-version"], capture_output=True, text=True, check=True).stdout
    return said.splitlines()[0].partition(" Copyright")[0]
