"""What all engines are given: the same models, pictures, prompts and grammar, and scenes whose answers are known.

The models have the shapes of Gemma 3 and random weights that follow a script (crow_sim.gemma.script): they take the
compute of the real ones and answer with JSON of a known text, which the question decides. Speed depends on the shapes
and on how alike answers are, not on what they say.
"""

import base64
import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from gguf import GGMLQuantizationType
from grammar_texts import gbnf
from scripted_gemma import script_grammar

from crow_sim.gemma import write_gemma3
from crow_sim.gemma.script import OPTIONS, make_script
from crow_sim.gemma.shapes import SIGLIP, SMALL_VISION, TRUE_TEXT, VisionShape

SCRIPT = make_script(fields=24, words=36)
GRAMMAR = script_grammar(SCRIPT)
GBNF = f"root ::= {gbnf(GRAMMAR)}\n"
MOST_TOKENS = 400
_INSTRUCTION_TOKENS = 440  # about what the product's instructions are in the real vocabulary
_WORDS = ("person", "people", "customer", "staff", "shelf", "product", "aisle", "queue", "till", "walking", "standing")
INSTRUCTIONS = " ".join(_WORDS[index % len(_WORDS)] for index in range(_INSTRUCTION_TOKENS))
_CHANGES = 3  # of a scene's choices, where it changes slowly
KINDS = ("still", "changing", "busy")


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a camera, and what its model has to say."""

    camera: int
    number: int
    scene: tuple[int, ...]

    @property
    def question(self) -> str:
        """What is asked after the picture."""
        return f"Camera: {SCRIPT.question(self.scene)}"

    @property
    def answer(self) -> str:
        """What the model says."""
        return SCRIPT.answer(self.scene)


def stream(kind: str, cameras: int) -> Iterator[list[Frame]]:
    """Rounds without end, with a frame of each camera."""
    drawn = random.Random(kind)
    scenes = [_any_scene(drawn) for _ in range(cameras)]
    for number in itertools.count():
        yield [Frame(camera, number, scene) for camera, scene in enumerate(scenes)]
        if kind == "busy":
            scenes = [_any_scene(drawn) for _ in range(cameras)]
        elif kind == "changing":
            scenes = [_changed(drawn, scene) for scene in scenes]


def _any_scene(drawn: random.Random) -> tuple[int, ...]:
    return tuple(drawn.randrange(OPTIONS) for _ in range(SCRIPT.choices))


def _changed(drawn: random.Random, scene: tuple[int, ...]) -> tuple[int, ...]:
    changed = list(scene)
    for place in drawn.sample(range(len(scene)), _CHANGES):
        changed[place] = drawn.randrange(OPTIONS)
    return tuple(changed)


def jpeg(frame: Frame) -> bytes:
    """A picture of its camera, with the noise of a sensor: no two are alike, however still the scene is."""
    blocks = np.random.default_rng(frame.camera).integers(40, 220, (12, 20, 3), np.uint8)
    picture = np.kron(blocks, np.ones((60, 64, 1), np.uint8))
    picture[::8, ::8] += np.random.default_rng((frame.camera, frame.number)).integers(0, 9, (90, 160, 3), np.uint8)
    done, data = cv2.imencode(".jpg", picture)
    assert done
    return data.tobytes()


def messages(frame: Frame) -> list[dict[str, object]]:
    """The frame as OpenAI's chat messages."""
    picture = "data:image/jpeg;base64," + base64.b64encode(jpeg(frame)).decode()
    parts: list[dict[str, object]] = [
        {"type": "text", "text": INSTRUCTIONS + "\n"},
        {"type": "image_url", "image_url": {"url": picture}},
        {"type": "text", "text": "\n" + frame.question},
    ]
    return [{"role": "user", "content": parts}]


def tower_shape(name: str) -> VisionShape:
    """`small`, or `siglip` with the side of its picture: siglip:896."""
    kind, _, side = name.partition(":")
    return SMALL_VISION if kind == "small" else replace(SIGLIP, image_pixels=int(side or SIGLIP.image_pixels))


def model_files(place: Path, text: str, tower: str) -> tuple[Path, Path]:
    """The model's files, made where they are not there yet (a minute for the 4B shape)."""
    directory = place / f"{text}-{tower.replace(':', '-')}"
    made = directory / "made"
    if not made.exists():
        write_gemma3(directory, TRUE_TEXT[text], tower_shape(tower), kind=GGMLQuantizationType.Q4_0, script=SCRIPT)
        made.touch()
    return directory / "gemma3.gguf", directory / "gemma3-mmproj.gguf"
