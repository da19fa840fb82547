"""Trackers: where the curve of a run goes while it trains. JSON lines always; TensorBoard and W&B when asked for.

They see a run and change nothing about it, so they are chosen by whoever starts a sweep and are no part of a spec.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from scaling.grid import RunSpec
from scaling.runs import Run, write_whole
from scaling.training.train.course import Progress

#: The trackers that can be asked for, and the package that each needs.
TRACKERS = {"tensorboard": "tensorboardX", "wandb": "wandb"}


class Tracker(Protocol):
    """Follows runs: `step` is told each chunk's mean loss, `end` the record."""

    def step(self, progress: Progress) -> None:
        """A chunk is done."""

    def end(self, run: Run) -> None:
        """A run is done or has failed."""


class Lines:
    """One line of JSON a chunk, in `<folder>/<id>.jsonl`: step, tokens, loss, seconds. The file of a run that goes on is cut
    to where its checkpoint was."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.begun = folder, set()

    def step(self, progress: Progress) -> None:
        """See `Tracker`."""
        path = self.folder / f"{progress.spec.id}.jsonl"
        if progress.spec.id not in self.begun:
            self.begun.add(progress.spec.id)
            kept = [line for line in _whole_lines(path) if json.loads(line)["step"] < progress.step]
            write_whole(path, "".join(line + "\n" for line in kept))
        line = {"step": progress.step, **_numbers(progress)}
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def end(self, run: Run) -> None:
        """See `Tracker`: the curve stays; the record says how it ended."""
        self.begun.discard(run.id)


class Guarded:
    """A tracker that no run fails with: at its first error, a network's perhaps, one line is printed and it follows no more."""

    def __init__(self, name: str, tracker: Tracker) -> None:
        self.name = name
        self.tracker: Tracker | None = tracker

    def step(self, progress: Progress) -> None:
        """See `Tracker`."""
        self._try(lambda tracker: tracker.step(progress))

    def end(self, run: Run) -> None:
        """See `Tracker`."""
        self._try(lambda tracker: tracker.end(run))

    def _try(self, follow: Callable[[Tracker], None]) -> None:
        if self.tracker is None:
            return
        try:
            follow(self.tracker)
        except Exception as error:
            self.tracker = None
            why = " ".join(str(error).split())[:200]
            print(f"tracker {self.name} stopped ({type(error).__name__}: {why}); training goes on.", file=sys.stderr)


class TensorBoard:
    """Event files in `<folder>/<id>`, for `tensorboard --logdir`."""

    def __init__(self, folder: Path) -> None:
        from tensorboardX import SummaryWriter  # pyright: ignore[reportMissingImports]

        self.folder, self.open, self.writers = folder, SummaryWriter, {}

    def step(self, progress: Progress) -> None:
        """See `Tracker`."""
        writer = self.writers.get(progress.spec.id)
        if writer is None:
            purge = {"purge_step": progress.step} if (self.folder / progress.spec.id).exists() else {}
            writer = self.writers[progress.spec.id] = self.open(str(self.folder / progress.spec.id), **purge)
        for name, value in _numbers(progress).items():
            writer.add_scalar(name, value, progress.step)

    def end(self, run: Run) -> None:
        """See `Tracker`."""
        writer = self.writers.pop(run.id, None)
        if writer is None:
            return
        if run.loss is not None:
            writer.add_scalar("heldout_loss", run.loss, run.steps)
        writer.close()


class WandB:
    """Runs of W&B, named by their ids, in `folder`. Offline unless WANDB_MODE says otherwise: `wandb sync` sends them."""

    def __init__(self, folder: Path) -> None:
        import wandb  # pyright: ignore[reportMissingImports]

        self.wandb, self.folder, self.runs = wandb, folder, {}

    def step(self, progress: Progress) -> None:
        """See `Tracker`."""
        run = self.runs.get(progress.spec.id) or self._begin(progress.spec)
        run.log(_numbers(progress), step=progress.step)

    def end(self, run: Run) -> None:
        """See `Tracker`."""
        following = self.runs.pop(run.id, None)
        if following is None:
            return
        following.summary.update({"heldout_loss": run.loss, "status": run.status, "reason": run.reason, "N": run.N})
        following.finish(exit_code=int(run.status != "done"))

    def _begin(self, spec: RunSpec) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.runs[spec.id] = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", "isoflop"),
            id=spec.id,
            name=spec.id,
            config=asdict(spec),
            dir=str(self.folder),
            mode=os.environ.get("WANDB_MODE", "offline"),
            resume="allow",
            reinit="create_new",
            settings=self.wandb.Settings(console="off"),
        )
        return self.runs[spec.id]


def choose_trackers(names: Sequence[str], state: Path) -> None:
    """Let the workers on a folder of runs follow what they train with these trackers too; `state` is its `.sweep`.

    Raises ValueError for another name, or one whose package is missing, naming the extra.
    """
    require_trackers(names)
    write_whole(state / "trackers.json", json.dumps(list(names)))


def chosen_trackers(state: Path) -> list[Tracker]:
    """JSON lines in `<state>/curves`, and the trackers that were chosen for this folder.

    Raises ValueError where the package of one is not installed here.
    """
    path = state / "trackers.json"
    names = json.loads(path.read_text()) if path.exists() else []
    require_trackers(names)
    made: list[Tracker] = [Lines(state / "curves")]
    if "tensorboard" in names:
        made.append(Guarded("tensorboard", TensorBoard(state / "tensorboard")))
    if "wandb" in names:
        made.append(Guarded("wandb", WandB(state / "wandb")))
    return made


def require_trackers(names: Sequence[str]) -> None:
    """Raise ValueError where a tracker is unknown or its package is not installed."""
    for name in names:
        if name not in TRACKERS:
            raise ValueError(f"tracker {name!r}: needed one of {', '.join(TRACKERS)}.")
        if not importlib.util.find_spec(TRACKERS[name]):
            raise ValueError(
                f"tracker {name!r} needs {TRACKERS[name]}, which is not installed: `pip install 'isoflop[{name}]'`."
            )


def _numbers(progress: Progress) -> dict[str, float]:
    tokens = progress.step * progress.spec.recipe.batch_tokens
    return {"tokens": tokens, "loss": round(progress.loss, 5), "seconds": round(progress.seconds, 3)}


def _whole_lines(path: Path) -> list[str]:
    """The lines of a file that was perhaps cut short in its last."""
    text = path.read_text() if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()
