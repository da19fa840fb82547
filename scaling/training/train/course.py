"""Course: a training under way, of one run or of many of one shape at once: its state, its losses and what it took so far."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from scaling.grid import RunSpec
from scaling.recipe import FEW_STEPS
from scaling.runs import Run
from scaling.training.corpus import Corpus
from scaling.training.train import checkpoint, cost
from scaling.training.train import evaluate as evaluation
from scaling.training.train import programs as compiled
from scaling.training.train.errors import DeviceLost, Diverged, Interrupted
from scaling.training.train.feed import Feed, ids_of
from scaling.training.train.programs import How
from scaling.training.train.schedule import chunk_steps, chunks, learning_rates

#: Points of the loss curve, log-spaced in tokens.
CURVE_POINTS = 48

#: Seconds between checkpoints of one run, and before its first.
CHECKPOINT_SECONDS = 60.0

#: A run has a spike where its mean loss over so many steps (an eighth of a short run) rises this far, in nats, above the
#: lowest such mean before. The highest tenth of the steps is left out: a batch of one strange window is no spike.
SPIKE_STEPS, SPIKE_NATS, SPIKE_LEFT_OUT = 64, 1.0, 0.1


@dataclass(frozen=True)
class Progress:
    """Where a run is: steps done, the mean loss of the last chunk, seconds trained so far, seconds of compiling."""

    spec: RunSpec
    step: int
    loss: float
    seconds: float
    compile_seconds: float


Watch = Callable[[Progress], None]


class Course:
    """The training of `specs`, which differ in what is data alone. It begins where `kept`, a folder, has its last state.

    `losses` are those of every step so far, float32 [P, steps]; `seconds` what they took; `counted` the first steps of
    a trunk that records before have counted as theirs.
    """

    def __init__(
        self,
        specs: Sequence[RunSpec],
        corpus: Corpus,
        *,
        kept: Path | None = None,
        watch: Watch | None = None,
        stopping: Callable[[], bool] = lambda: False,
        how: How = "vmap",
        latest: int | None = None,
        pause: Callable[[Course], None] | None = None,
    ) -> None:
        spec = specs[0]
        require_corpus(spec, corpus)
        self.specs, self.corpus, self.kept, self.watch, self.stopping = specs, corpus, kept, watch, stopping
        self.pause = pause
        self.rates = [learning_rates(each) for each in specs]
        self.length = chunk_steps(spec.shape, spec.recipe.batch_tokens)
        self.losses = np.zeros((len(specs), 0), np.float32)
        self.seconds, self.counted, self.devices = 0.0, 0, 1
        self.saved = compiling = time.perf_counter()
        with self._explained():
            ids = ids_of(corpus)
            self.programs = compiled.programs(spec.shape, spec.recipe, ids, len(specs), how)
            self.compile_seconds = time.perf_counter() - compiling
            self.devices = self.programs.mesh.size if self.programs.mesh else 1
            self.meter, self.memory = cost.Meter(), cost.PeakMemory()
            self.feed = Feed(corpus, specs, ids, self.programs.mesh)
            self.state = self.programs.fresh([each.seed for each in specs])
            step = checkpoint.last_step(kept)
            if kept and step is not None and (latest is None or step <= latest):
                self._restore(kept, step)

    @property
    def step(self) -> int:
        """Steps done."""
        return self.losses.shape[1]

    def advance(self, until: int) -> None:
        """Train until that step. Raises Interrupted where asked to stop, once the state is kept; Diverged where every
        run has; OutOfMemory; DeviceLost."""
        todo, data = chunks(self.step, until, self.length), None
        for number, (first, count) in enumerate(todo):
            begin = time.perf_counter()
            rates = [np.pad(rate[first : first + count], (0, self.length - count)) for rate in self.rates]
            with self._explained():
                data = self.feed(first, count, self.length) if data is None else data
                self.state, losses = self.programs.advance(self.state, data, rates, count)
                if number + 1 < len(todo):  # made while the device computes
                    data = self.feed(*todo[number + 1], self.length)
                losses = np.asarray(losses).reshape(len(self.specs), -1)[:, :count]
            self.losses = np.concatenate([self.losses, losses], axis=1)
            self.seconds += time.perf_counter() - begin
            self.meter.sample()
            self._tell(losses)
            if all(self.fault(run) for run in range(len(self.specs))):
                raise Diverged(self.fault(0))
            self._pause()

    def fault(self, run: int) -> str | None:
        """Why a run has diverged so far; None where it has not."""
        spec, losses = self.specs[run], self.losses[run]
        of = f"of {spec.steps}, the last good one"
        if not np.isfinite(losses).all():
            return f"the loss is not a number after step {int(np.argmin(np.isfinite(losses)))} {of}"
        block = min(SPIKE_STEPS, max(8, spec.steps // 8))
        ends = np.unique([*range(block, len(losses) + 1, block), len(losses)])
        ends = ends[ends >= block]
        of_block = np.sort(losses[ends[:, None] - np.arange(1, block + 1)], axis=1)
        means = of_block[:, : block - math.ceil(SPIKE_LEFT_OUT * block)].mean(1, dtype=np.float64)
        risen = np.flatnonzero(means[1:] > np.minimum.accumulate(means)[:-1] + SPIKE_NATS)
        if len(risen):
            at = int(risen[0])
            lowest = means[: at + 1].min()
            return f"the loss rose from {lowest:.3f} to {means[at + 1]:.3f} after step {ends[at]} {of}"
        return None

    def records(self, own_steps: int | None = None) -> list[Run]:
        """Evaluate, and give each run's record. `own_steps` are those that it cost, where they are not all of its own."""
        spec, many = self.specs[0], len(self.specs)
        faults = [self.fault(run) for run in range(many)]
        begin, found = time.perf_counter(), {}
        if not all(faults):
            windows = self.corpus.evaluation(spec.eval_tokens, spec.shape.context)
            params, context = self.state["params"], spec.shape.context
            with self._explained():
                found[""] = evaluation.evaluate_windows(self.programs, params, windows, context)
                found |= evaluation.further(self.programs, params, spec, self.corpus)
            found = {name: losses.reshape(many, -1) for name, losses in found.items()}
        measured = self._measured(self.step if own_steps is None else own_steps, time.perf_counter() - begin)
        return [self._record(run, faults[run], found, measured) for run in range(many)]

    def keep(self) -> None:
        """Keep the state, where there is a folder for it."""
        if self.kept:
            checkpoint.save(self.kept, self.step, {"state": self.state, **self._numbers()})
            self.saved = time.perf_counter()

    def branch(self, spec: RunSpec, kept: Path | None) -> Course:
        """A course of its own that goes on from here as this spec says, or from its last state in `kept`."""
        branch = copy.copy(self)
        branch.specs, branch.kept, branch.rates = [spec], kept, [learning_rates(spec)]
        branch.meter = copy.copy(self.meter)
        step = checkpoint.last_step(kept)
        if kept and step is not None:
            branch._restore(kept, step)
        else:
            branch.state = jax.tree.map(jnp.copy, self.state)  # steps use up the state that they are given
        return branch

    def _restore(self, folder: Path, step: int) -> None:
        self.losses = np.zeros((len(self.specs), step), np.float32)
        like = {"state": checkpoint.same_place(self.state), **self._numbers()}
        del self.state  # there may be no room for two
        kept = checkpoint.restore(folder, step, like)
        self.state, self.losses = kept["state"], np.asarray(kept["losses"])
        self.counted = int(kept["counted"][0])
        self.seconds, compile_seconds, joules = (float(each) for each in kept["spent"])
        self.compile_seconds += compile_seconds
        self.meter.resume(None if math.isnan(joules) else joules)

    def _numbers(self) -> dict[str, np.ndarray]:
        """What a checkpoint holds beside the state: the losses, what they took, and what of the steps is counted already."""
        joules = self.meter.sample()
        spent = [self.seconds, self.compile_seconds, math.nan if joules is None else joules]
        return checkpoint.numbers(losses=self.losses, spent=spent, counted=[self.counted])

    def _tell(self, losses: np.ndarray) -> None:
        """Tell each run's mean loss over the chunk, of those that are numbers."""
        for spec, each in zip(self.specs, losses):
            finite = each[np.isfinite(each)]
            if self.watch and len(finite):
                self.watch(Progress(spec, self.step, float(finite.mean()), self.seconds, self.compile_seconds))

    def _pause(self) -> None:
        """Keep the state when it is time, and stop when asked to, but for a run at its end, which is only evaluated."""
        if self.step == self.specs[0].steps:
            return
        stop = _agreed(self.stopping())
        if self.kept and (stop or _agreed(time.perf_counter() - self.saved > CHECKPOINT_SECONDS)):
            if self.pause:
                self.pause(self)
            self.keep()
        if stop:
            raise Interrupted

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what an error of the device means: OutOfMemory with what would fit, or DeviceLost."""
        try:
            yield
        except (jax.errors.JaxRuntimeError, MemoryError) as error:
            if cost.is_out_of_memory(error):
                raise cost.out_of_memory(self.specs[0], len(self.specs), self.devices) from error
            if jax.default_backend() != "cpu":
                raise DeviceLost(
                    f"the device failed at step {self.step}: {' '.join(str(error).split())[:300]}"
                ) from error
            raise

    def _measured(self, own_steps: int, eval_seconds: float) -> dict[str, Any]:
        """What each run cost: its equal part of the whole."""
        spec, many = self.specs[0], len(self.specs)
        tokens = own_steps * spec.recipe.batch_tokens
        seconds = self.seconds / many
        flops = spec.shape.flops_per_token * tokens
        kwh, how = self.meter.kwh(self.seconds + eval_seconds, self.devices)
        kwh, memory = _of_all_processes(kwh, self.memory.bytes())
        return {
            "seconds": seconds,
            "compile_seconds": self.compile_seconds / many,
            "eval_seconds": eval_seconds / many,
            "tokens_per_second": tokens / seconds if seconds else None,
            "flops_per_second": flops / seconds if seconds else None,
            "share_of_peak": cost.share_of_peak(flops / seconds, spec.recipe.precision, self.devices)
            if seconds
            else None,
            "flops_spent": flops,
            "peak_memory_bytes": None if memory is None else int(memory),
            "energy_kwh": None if kwh is None else kwh / many,
            "energy_how": how,
            "packed": many,
            "devices": self.devices,
            **cost.machine(self.devices),
        }

    def _record(self, run: int, fault: str | None, found: dict[str, np.ndarray], measured: dict[str, Any]) -> Run:
        spec = self.specs[run]
        common = {"curve": curve(spec, self.losses[run]), "trunk": spec.trunk, **measured}
        if not fault:
            loss = float(found[""][run].mean())
            if not loss < math.log(spec.shape.vocab) + 0.1:
                fault = f"held-out loss {loss:.3f} is worse than guessing, {math.log(spec.shape.vocab):.3f}"
        if fault:
            return Run.of(spec, status="failed", reason=f"diverged: {fault}.", **common)
        losses = {name: each[run] for name, each in found.items()}
        held = {
            name: {"loss": float(each.mean()), "loss_se": evaluation.standard_error(each)}
            for name, each in losses.items()
        }
        bytes_per_token = self.corpus.bytes_per_token  # None where nobody knows
        return Run.of(
            spec,
            status="done",
            loss=loss,
            loss_se=held.pop("")["loss_se"],
            loss_parts=[float(f"{part:.7g}") for part in evaluation.parts(losses[""])],
            bits_per_byte=loss / math.log(2) / bytes_per_token if bytes_per_token else None,
            heldout=held,
            epochs=self.corpus.epochs(spec.tokens, spec.shape.context),
            flags=self._flags(spec),
            **common,
        )

    def _flags(self, spec: RunSpec) -> list[str]:
        """What is doubtful about a run."""
        windows = spec.recipe.batch_tokens // spec.shape.context
        said = [f"few steps: {spec.steps}, fewer than {FEW_STEPS}"] if spec.steps < FEW_STEPS else []
        if windows % self.devices:
            said.append(f"each of {self.devices} devices computed the whole batch, which is {windows} windows")
        return said


def require_corpus(spec: RunSpec, corpus: Corpus) -> None:
    """Raise ValueError where the corpus is not the spec's, or its vocabulary is larger than the shape's."""
    if corpus.digest != spec.digest:
        raise ValueError(f"spec {spec.id} needs the corpus of digest {spec.digest}, and was given {corpus.digest}.")
    if corpus.vocab > spec.shape.vocab:
        raise ValueError(
            f"corpus {corpus.name!r} has {corpus.vocab} token ids; the shape has vocab {spec.shape.vocab}."
        )


def curve(spec: RunSpec, losses: np.ndarray) -> list[list[float]]:
    """Log-spaced [tokens, loss] points: the mean training loss since the point before."""
    finite = losses[: int(np.argmin(np.isfinite(losses)))] if not np.isfinite(losses).all() else losses
    if not len(finite):
        return []
    edges = np.unique(np.geomspace(1, len(finite), CURVE_POINTS).round().astype(int))
    means = np.diff(np.concatenate([[0.0], np.cumsum(finite, dtype=np.float64)[edges - 1]])) / np.diff(edges, prepend=0)
    return [[int(edge) * spec.recipe.batch_tokens, round(float(mean), 5)] for edge, mean in zip(edges, means)]


def _of_all_processes(*values: float | None) -> list[float | None]:
    """Sums over the processes of the run, each None where one of them does not know its part."""
    if jax.process_count() == 1:
        return list(values)
    from jax.experimental import multihost_utils

    parts = multihost_utils.process_allgather(np.array([math.nan if each is None else each for each in values]))
    return [None if math.isnan(each) else float(each) for each in parts.sum(0)]


def _agreed(said: bool) -> bool:
    """What any process of the run says, so that all of them stop or keep their state at the same step."""
    if jax.process_count() == 1:
        return said
    from jax.experimental import multihost_utils

    return bool(multihost_utils.process_allgather(np.array(said)).any())
