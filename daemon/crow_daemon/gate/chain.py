"""The gate: decides sample by sample what is sent.

Invariants
1. The first sample goes out, and so does the first after a change of the picture's size.
2. At least one sample goes out per heartbeat, whatever is seen: an empty shop is seen to be empty, a covered camera to
   be covered.
3. The comparison is with the last sample *sent*, never with the last one seen: slow changes add up, and a person who
   walks in and then stands still is still a difference.
4. After activity, samples go out for `motion_ttl_s` more, unless they repeat the last one sent. What changes once and
   then stands, a drop on the lens or a lamp, goes out once.
5. An alert holds nothing back: it may be wrong, and what moves under it goes out. Of what is held back anyway it is the
   reason.
6. A detector that fails holds nothing back: activity stands in for people until it works again.

What activity is depends on the camera: a change (`difference`), or a person. The detector looks only at samples that
differ from the last one that it looked at; in between, its answer stands.
"""

from dataclasses import dataclass, replace

from crow_daemon.detect.port import DETECTOR_FAILED
from crow_daemon.gate.difference import ACTIVE_SHARE, STIRRING_SHARE, changed_share, repeats, smoothed
from crow_daemon.gate.gate import Alert, GateReason, Luma, Sight
from crow_shared.errors import CrowError

_NOTHING_TO_SEE: dict[Alert | None, GateReason] = {
    Alert.BLACK: GateReason.BLACK,
    Alert.FROZEN: GateReason.FROZEN,
    Alert.COVERED: GateReason.COVERED,
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """`held` is why the sample is held back, None to send it.

    `begins`: with it activity begins after a pause. `stirs`: it was held, and yet something has changed, too little to
    be told from the clock that many cameras write into their pictures. Should activity begin now, it began here.
    """

    held: GateReason | None
    begins: bool = False
    stirs: bool = False


class GateChain:
    """The gate of one camera."""

    def __init__(self, heartbeat_s: float, motion_ttl_s: float, *, people_only: bool) -> None:
        """A gate that lets the next sample through; `people_only` makes the detector say what activity is."""
        self._heartbeat_us = round(heartbeat_s * 1_000_000)
        self._ttl_us = round(motion_ttl_s * 1_000_000)
        self._people_only = people_only
        self._sent: Luma | None = None
        self._sent_smoothed: Luma | None = None
        self._sent_us = 0
        self._searched: Luma | None = None  # smoothed: the last sample that the detector looked at …
        self._found = False  # … and whether it saw anybody
        self._active_us: int | None = None
        self._was_held = False
        self.detector_failure: CrowError | None = None  # since it was to look last

    def judge(self, sight: Sight, capture_us: int, alert: Alert | None) -> Verdict:
        """Whether to send a sample. Raises CrowError when it cannot be decoded."""
        verdict = self._judge(sight, capture_us, alert)
        begins = verdict.begins and self._was_held
        self._was_held = verdict.held is not None
        return replace(verdict, begins=begins)

    def sent(self, luma: Luma, capture_us: int) -> None:
        """The sample that went out: later ones are compared with it."""
        self._sent, self._sent_smoothed, self._sent_us = luma, smoothed(luma), capture_us

    def _judge(self, sight: Sight, capture_us: int, alert: Alert | None) -> Verdict:
        """`begins` is whether there is activity, whatever was before."""
        luma = sight.luma
        if self._sent is None or self._sent_smoothed is None or self._sent.shape != luma.shape:
            return Verdict(None)
        due = not 0 <= capture_us - self._sent_us < self._heartbeat_us
        if repeats(self._sent, luma, sight.visible):
            return Verdict(None if due else _NOTHING_TO_SEE.get(alert, GateReason.DUPLICATE))
        smooth = smoothed(luma)
        is_somebody = self._is_somebody_there(sight, smooth) if self._people_only else None
        if is_somebody is not None:
            active, stirs, idle = is_somebody, False, GateReason.NO_PERSON
        else:
            share = changed_share(self._sent_smoothed, smooth, sight.visible)
            active, stirs, idle = share >= ACTIVE_SHARE, share >= STIRRING_SHARE, GateReason.NO_ACTIVITY
        if active and (is_somebody or not self._was_held):  # or it changed from one sample to the next
            self._active_us = capture_us
        lingers = self._active_us is not None and 0 <= capture_us - self._active_us <= self._ttl_us
        if due or active or lingers:
            return Verdict(None, begins=active)
        return Verdict(_NOTHING_TO_SEE.get(alert, idle), stirs=stirs)

    def _is_somebody_there(self, sight: Sight, smooth: Luma) -> bool | None:
        """None: the detector fails."""
        searched = self._searched
        if (
            searched is None
            or searched.shape != smooth.shape
            or changed_share(searched, smooth, sight.visible) >= ACTIVE_SHARE
        ):
            try:
                self._found = sight.somebody()
            except CrowError as error:
                if error.code != DETECTOR_FAILED:
                    raise
                self._searched, self.detector_failure = None, error
                return None
            self._searched, self.detector_failure = smooth, None
        return self._found
