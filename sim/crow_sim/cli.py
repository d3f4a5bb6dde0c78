"""`crow-sim`: the simulated shop from the command line."""

import asyncio
from dataclasses import replace
from pathlib import Path

import click

from crow_shared.cli import CrowGroup
from crow_sim.rtsp.server import RtspServer
from crow_sim.shop.clip import write_clip
from crow_sim.shop.dataset import write_dataset
from crow_sim.shop.lens import Rain
from crow_sim.shop.plan import planned_scene
from crow_sim.shop.scene import Light
from crow_sim.shop.view import VIEWS
from crow_sim.transcode import transcode_for_serving

_DIMMED = 0.5  # what is left of the light when a lamp is switched off


@click.group(cls=CrowGroup)
def main() -> None:
    """A rendered shop with known ground truth, and an RTSP server for it. For development alone."""


@main.command()
@click.option("--view", type=click.Choice(sorted(VIEWS)), default="aisle", show_default=True, help="Which camera.")
@click.option("--seconds", type=click.FloatRange(1, 3600), default=60, show_default=True, help="How much of it.")
@click.option("--fps", type=click.FloatRange(1, 30), default=15, show_default=True, help="Pictures a second.")
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, other customers.")
@click.option("--codec", type=click.Choice(["h264", "hevc"]), default="h264", show_default=True, help="Video codec.")
@click.option(
    "--drift", type=click.FloatRange(0, 0.9), default=0, show_default=True, help="Light drifts by this share."
)
@click.option("--switch-at", type=float, multiple=True, metavar="S", help="Light switched off or on again; repeatable.")
@click.option("--noise", type=click.FloatRange(0, 60), default=1.8, show_default=True, help="Sensor's, in grey levels.")
@click.option("--rain", type=click.FloatRange(0, 120), default=0, show_default=True, help="Drops a minute on the lens.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="The MP4 file to write.")
def render(
    view: str,
    seconds: float,
    fps: float,
    seed: int,
    codec: str,
    drift: float,
    switch_at: tuple[float, ...],
    noise: float,
    rain: float,
    out: Path,
) -> None:
    """Renders a clip, and its ground truth beside it as OUT.truth.jsonl."""
    out.parent.mkdir(parents=True, exist_ok=True)
    steps = tuple((at_s, _DIMMED if number % 2 == 0 else 1.0) for number, at_s in enumerate(sorted(switch_at)))
    scene = replace(
        planned_scene(VIEWS[view], seed, seconds, Light(drift_share=drift, steps=steps)),
        noise_sigma=noise,
        rain=Rain(rain),
    )
    write_clip(out, scene, seconds, fps, codec="hevc" if codec == "hevc" else "h264")
    click.echo(f"{out}, {out}.truth.jsonl")


@main.command()
@click.option("--view", "views", type=click.Choice(sorted(VIEWS)), multiple=True, help="Which camera; default: all.")
@click.option("--seconds", type=click.FloatRange(1, 3600), default=180, show_default=True, help="How much of each.")
@click.option(
    "--interval", "interval_s", type=click.FloatRange(0.05, 60), default=1, show_default=True, help="Seconds."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed, other customers.")
@click.option("--sign", default="", help="What a board on the wall says; the labels stay the same.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="The folder to write.")
def dataset(views: tuple[str, ...], seconds: float, interval_s: float, seed: int, sign: str, out: Path) -> None:
    """Renders a data set for `crow-receiver eval`: pictures and what they show."""
    chosen = tuple(VIEWS[name] for name in views or sorted(VIEWS))
    frames = write_dataset(out, chosen, seconds, interval_s, seed, sign)
    click.echo(f"{out}: {frames} frames")


@main.command()
@click.argument("source", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("target", type=click.Path(path_type=Path, dir_okay=False))
def transcode(source: Path, target: Path) -> None:
    """Makes any footage servable: H.264 with a key frame a second."""
    target.parent.mkdir(parents=True, exist_ok=True)
    transcode_for_serving(source, target)
    click.echo(str(target))


@main.command()
@click.option("--mount", "mounts", multiple=True, required=True, metavar="NAME=FILE", help="What to serve; repeatable.")
@click.option("--port", type=click.IntRange(0, 65535), default=8554, show_default=True, help="0 takes a free one.")
@click.option("--anywhere", is_flag=True, help="Each client joins the clip somewhere, not at its beginning.")
def serve(mounts: tuple[str, ...], port: int, anywhere: bool) -> None:
    """Serves encoded clips over RTSP in a loop, on this machine only and without a password, until interrupted."""
    files: dict[str, Path] = {}
    for mount in mounts:
        name, equals, file = mount.partition("=")
        if not (name and equals and file):
            raise click.BadParameter(f"{mount!r} is not NAME=FILE", param_hint="--mount")
        files[name] = Path(file)
    server = RtspServer(files, port=port, joined_anywhere=anywhere)

    async def run() -> None:
        await server.start()
        for name in files:
            click.echo(server.url(name))
        try:
            await asyncio.Event().wait()
        finally:
            await server.stop()

    try:
        asyncio.run(run())
    except KeyboardInterrupt:
        click.echo("stopped", err=True)
