"""One release's counts: from the logs to the judge's state, and both to the disk together."""

from collections.abc import Iterable

from ci_tools.release.control import Phase
from ci_tools.release.controller import judged as files
from ci_tools.release.controller.bundles import Thresholds
from ci_tools.release.controller.counting import Weights, observations
from ci_tools.release.controller.judged import Judged
from ci_tools.release.controller.pairs import Pairs
from ci_tools.release.controller.predictions import Predictions
from ci_tools.release.controller.settings import Settings
from ci_tools.release.controller.settling import Batch, Settling
from ci_tools.release.controller.standing import Course
from ci_tools.release.home import Home
from ci_tools.release.judge import Decision, begin, decide, update
from ci_tools.release.judge.budget import alphas, needed_evidence
from ci_tools.release.judge.followed import Followed
from ci_tools.release.traffic.access import AccessLog
from ci_tools.release.traffic.lines import Position, end


def begun(home: Home, course: Course, boot: str, now: float, members: Iterable[str] | None) -> Judged:
    """Before anything is counted of a release.

    Args:
        home: of the service.
        course: of the release.
        boot: id of the machine's boot.
        now: boot time.
        members: whose logs hold nothing of the release yet; None: all logs may, as it began earlier.
    """
    predictions = {name: position for name in members or () if (position := end(home.predictions(name)))}
    return Judged(
        release=course.id,
        state=begin(course.judge_policy()),
        boot=boot,
        origin=now,
        phase=course.phase,
        since=now,
        saved=now,
        access=None if members is None else end(home.access_log),
        predictions=predictions,
    )


class Work:
    """The release that is judged or watched."""

    def __init__(
        self, home: Home, course: Course, settings: Settings, thresholds: Thresholds, pairs: Pairs, kept: Judged
    ) -> None:
        """Go on from what was kept."""
        self._home, self._settings, self._thresholds, self._pairs = home, settings, thresholds, pairs
        self.policy = course.judge_policy()
        self.release = course.id
        self._kept, self.state = kept, kept.state
        self.origin, self.since, self.phase = kept.origin, kept.since, kept.phase
        self.log = AccessLog(home.access_log, kept.access)
        self._predictions = Predictions(home, course.champion, course.bundle, settings.pair_seconds, kept.predictions)
        self._settling = Settling(settings.answer_seconds, settings.join_seconds)
        self._decision: Decision | None = None
        self._decided, self._current = 0.0, (0.0, 0.0)
        self._needed = {name: needed_evidence(share) for name, share in alphas(self.policy).items()}
        pairs.take_back(kept.generation)

    @property
    def waiting(self) -> bool:
        """Whether counts are held back until slow answers have come."""
        return self._settling.waiting

    @property
    def decision(self) -> Decision:
        """The judge's, by all that was counted."""
        if self._decision is None:
            self._decision = decide(self.state, self.policy)
        return self._decision

    def entered(self, phase: Phase, now: float) -> None:
        """The release is in another phase now."""
        if phase is not self.phase:
            self.phase, self.since = phase, now

    def count(self, now: float, course: Course, members: Iterable[str], current: Weights) -> None:
        """Take in what is new.

        Args:
            now: boot time.
            course: of the release.
            members: whose prediction logs may tell of it.
            current: weights in force.
        """
        before = self.log.position
        self._settling.add(Batch(now, before, self.log.read()))
        fresh = self._pairs.add(self._predictions.read(now, members), self._next)
        losses = self._pairs.losses(self._next) if self.policy.labels else ()
        for observation in observations(
            self._settling.take(now),
            serials=course.serials,
            current=current,
            seconds=max(now - self.origin, self.state.seconds),
            policy=self.policy,
            score=self._predictions.score,
            pairs=fresh,
            thresholds=self._thresholds,
            losses=losses,
        ):
            self.state = update(self.state, observation, self.policy)
        # Intervals and sentences cost more than counting does: without harm they are made a few times a second.
        late = now - self._decided >= self._settings.decide_seconds
        if late or current != self._current or self._is_harmful():
            self._decision, self._decided, self._current = None, now, current

    def watch(self, now: float) -> None:
        """Take in new labels, which are all that counts after a promotion."""
        losses = self._pairs.losses(self._next) if self.policy.labels else ()
        if losses:
            observation = observations((), serials={}, current=(0.0, 0.0), policy=self.policy, losses=losses,
                                       seconds=max(now - self.origin, self.state.seconds),
                                       score=self._predictions.score)[0]  # fmt: skip
            self.state = update(self.state, observation, self.policy)
            self._decision = None

    def save(self, now: float) -> bool:
        """Write it all down, if the log has a place that parts what was counted from what was not.

        Raises:
            SwitchbackError: the disk refuses.
        """
        access = self._access()
        if access is None:
            return False
        self._pairs.commit()
        kept = self._kept.model_copy(update={
            "generation": self._next, "state": self.state, "origin": self.origin, "since": self.since,
            "phase": self.phase, "saved": now, "access": access, "predictions": self._predictions.positions,
        })  # fmt: skip
        files.save(self._home, kept)
        self._kept = kept
        return True

    def _is_harmful(self) -> bool:
        """Whether the evidence of harm suffices for any metric."""
        state = self.state
        alone: dict[str, Followed] = {"flips": state.flips, "shift": state.shift, "labels": state.labels}
        return any((alone | state.compared)[name].peak >= needed for name, needed in self._needed.items())

    @property
    def _next(self) -> int:
        """Generation of what is counted now."""
        return self._kept.generation + 1

    def _access(self) -> Position | None:
        return self._settling.position(self.log.position)
