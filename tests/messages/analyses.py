"""Frames and sessions to build messages from: plain ones, arbitrary ones, and the largest that the schema allows."""

import json
from collections import Counter
from importlib.resources import files
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from crow_receiver.messages.coverage import Coverage
from crow_receiver.messages.inputs import AnalysedFrame, SessionFacts
from crow_receiver.store.ledger import LedgerSums
from crow_receiver.vision.schema import (
    MAX_CROSSED_LINES,
    MAX_DESCRIPTION_CHARS,
    MAX_INTERACTIONS,
    MAX_PEOPLE,
    Action,
    Activity,
    Analysis,
    LineCrossings,
    Movement,
    PassedOver,
    Person,
    ProductInteraction,
    Provenance,
    Role,
    Scene,
)
from crow_shared.frame import TimeSource
from crow_shared.identity import CameraKey

START_US = 1_700_000_040_000_000  # a whole minute
CLASSIC = Provenance(
    engine="classic",
    model=None,
    model_sha256=None,
    prompt_version=None,
    limits=["cannot tell what is done with a product"],
    duration_ms=7,
)
LLAMA = Provenance(
    engine="llama",
    model="gemma-3.gguf",
    model_sha256="ab" * 32,
    quantization="Q4_0",
    prompt_version="shop-3",
    limits=[],
    duration_ms=900,
)
STANDING_IN = CLASSIC.model_copy(update={"passed_over": [PassedOver(engine="openai", reason="no server at 12:00")]})
FACTS = SessionFacts("s-1", CameraKey("org-1", "site-1", "cam-1"), "Front Entrance", START_US, 1000)


COVERAGE = Coverage.of(
    LedgerSums(1, 60, 10, Counter({"no_activity": 45}), Counter({"camera_down": 5}), {"black"}), 1, START_US
)


def schema(name: str) -> dict[str, Any]:
    return json.loads((files("crow_receiver") / "schemas" / f"{name}.schema.json").read_text())


def validator(name: str) -> Draft202012Validator:
    Draft202012Validator.check_schema(schema(name))
    return Draft202012Validator(schema(name))


def person(zone: str = "Till", role: Role = Role.CUSTOMER, activity: Activity = Activity.STANDING) -> Person:
    return Person(role=role, zone=zone, activity=activity, movement=Movement.STILL, confidence=0.5)


def handling(action: Action = Action.PICKUP, product: str | None = "shoe", zone: str = "Shelf") -> ProductInteraction:
    return ProductInteraction(action=action, product=product, zone=zone, confidence=0.5)


def frame(
    index: int,
    *,
    after_ms: int | None = None,
    people: list[Person] | None = None,
    interactions: list[ProductInteraction] | None = None,
    queue_length: int | None = None,
    crossings: list[LineCrossings] | None = None,
    description: str = "Two people stand at the till.",
    provenance: Provenance = CLASSIC,
    stands_for_ms: int = 1000,
) -> AnalysedFrame:
    scene = Scene(
        people=people or [],
        interactions=interactions or [],
        queue_length=queue_length,
        crossings=crossings,
        confidence=0.5,
        description=description,
    )
    capture_us = START_US + 1000 * (index * 1000 if after_ms is None else after_ms)
    analysis = Analysis(scene=scene, provenance=provenance)
    return AnalysedFrame(index, capture_us, TimeSource.CAMERA, -1_234_567, True, False, analysis, stands_for_ms)


def largest_frame(index: int, distinct: bool = False) -> AnalysedFrame:
    """In JSON a control character takes six bytes, more than any other."""
    mark = [f"{index:04d}{place:02d}" if distinct else "" for place in range(8)]
    return frame(
        index,
        people=[person(zone=(mark[place] + "\x01" * 60)[:60]) for place in range(MAX_PEOPLE)],
        interactions=[
            handling(product=(mark[place] + "\x02" * 60)[:60], zone="\x01" * 60) for place in range(MAX_INTERACTIONS)
        ],
        queue_length=99,
        crossings=[LineCrossings(line="\x01" * 60, inwards=8, outwards=8)] * MAX_CROSSED_LINES,
        description="\x03" * MAX_DESCRIPTION_CHARS,
        provenance=Provenance(
            engine="\x01" * 60,
            model="\x01" * 255,
            model_sha256="0" * 64,
            quantization="\x01" * 60,
            prompt_version="\x01" * 60,
            passed_over=[PassedOver(engine="\x01" * 60, reason="down")] * 9,
            limits=["\x01" * 400] * 16,
            duration_ms=1,
        ),
    )


_short = st.text(st.characters(codec="utf-8"), max_size=60)
_share = st.floats(0, 1)
_provenances = st.sampled_from([CLASSIC, LLAMA, STANDING_IN])
_scenes = st.builds(
    Scene,
    people=st.lists(
        st.builds(
            Person,
            role=st.sampled_from(Role),
            zone=_short,
            activity=st.sampled_from(Activity),
            movement=st.sampled_from(Movement),
            confidence=_share,
        ),
        max_size=MAX_PEOPLE,
    ),
    interactions=st.lists(
        st.builds(
            ProductInteraction,
            action=st.sampled_from(Action),
            product=st.none() | _short,
            zone=_short,
            confidence=_share,
        ),
        max_size=MAX_INTERACTIONS,
    ),
    queue_length=st.none() | st.integers(0, 99),
    crossings=st.none()
    | st.lists(
        st.builds(LineCrossings, line=_short, inwards=st.integers(0, 8), outwards=st.integers(0, 8)),
        max_size=MAX_CROSSED_LINES,
    ),
    confidence=_share,
    description=st.text(st.characters(codec="utf-8"), min_size=1, max_size=60),
)


def analysed_frames(provenances: st.SearchStrategy[Provenance] = _provenances) -> st.SearchStrategy[AnalysedFrame]:
    return st.builds(
        AnalysedFrame,
        frame_index=st.integers(0, 3600),
        capture_us=st.integers(0, 2**52),
        time_source=st.sampled_from(TimeSource),
        clock_skew_us=st.none() | st.integers(-(2**52), 2**52),
        masked=st.booleans(),
        blurred=st.booleans(),
        analysis=st.builds(Analysis, scene=_scenes, provenance=provenances),
        stands_for_ms=st.integers(0, 60_000),
    )
