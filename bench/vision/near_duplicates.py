"""How many of a data set's frames would be answered from the frame described before, and whether that is ever wrong.

Run: `python bench/vision/near_duplicates.py DATASET [CLIPS]`, as `crow-receiver eval` takes them. Wrong is one whose
label has other people or other interactions than the label of the frame in whose place it stands.
"""

import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

from crow_receiver.evaluation import load_dataset
from crow_receiver.evaluation.frames import frames_of
from crow_receiver.evaluation.labels import Label
from crow_receiver.vision.decode import decode
from crow_receiver.vision.likeness import Sketch, alike, sketch

MOST_S = 60.0  # the default of vision.duplicate_s


def main() -> None:
    """Counts and prints."""
    dataset = load_dataset(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    for camera in dataset.description.cameras:
        counts = Counter[str]()
        before: tuple[Sketch, Label | None, float] | None = None
        with closing(frames_of(dataset, camera, labelled_only=False)) as frames:
            for frame in frames:
                now = sketch(decode(frame.request.encoding, frame.request.coded, (320, 320)))
                counts["frames"] += 1
                if before is None or frame.time_s - before[2] > MOST_S or not alike(before[0], now):
                    before = now, frame.label, frame.time_s
                    continue
                counts["alike"] += 1
                if before[1] is not None and frame.label is not None:
                    counts["labelled"] += 1
                    counts["wrong"] += differ(before[1], frame.label)
        print(
            f"{camera}: {counts['alike']} of {counts['frames']} frames answered from the one before; "
            f"{counts['labelled']} of these labelled on both sides, {counts['wrong']} wrong"
        )


def differ(one: Label, other: Label) -> bool:
    """Whether two labels tell of other people or other interactions."""
    people = None not in (one.count, other.count) and one.count != other.count
    if one.interactions is None or other.interactions is None:
        return people
    return people or Counter(each.action for each in one.interactions) != Counter(
        each.action for each in other.interactions
    )


if __name__ == "__main__":
    main()
