"""The figures by the name that the command line and the report know them by, and what each says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from matplotlib.figure import Figure

from scaling.reporting.figures.corner import NO_BOOTSTRAP, answers, corner
from scaling.reporting.figures.decisions import being_off, design, flatness, pareto
from scaling.reporting.figures.fits import power_laws, residuals, surface
from scaling.reporting.figures.style import missing
from scaling.reporting.figures.sweep import isoflop, training_curves, valleys
from scaling.reporting.figures.uncertainty import comparison, floor, profiles
from scaling.reporting.study import Study


def _profiles(study: Study) -> Figure:
    if study.fit is None or study.fit.draws is None:
        return missing(*NO_BOOTSTRAP)
    return profiles(study.profiles, study.fit.law.params)


def _comparison(study: Study) -> Figure:
    try:
        found = study.comparison
    except ValueError as error:  # FitError is one
        return missing("No laws to compare on these runs.", str(error))
    return comparison(found)


def _floor(study: Study) -> Figure:
    if study.floor is None or not study.floored:
        return missing(
            "No floor to compare with: these runs were not trained on a planted corpus.",
            "Its corpus.json says the least loss there is; a law with a term E is needed, too.",
        )
    return floor([(fit.law.name, study.floor.above(fit)) for fit in study.floored], study.floor.value)


def _design(study: Study) -> Figure:
    try:
        expected = study.expected
    except ValueError as error:
        return missing("These runs cannot say what they tell.", str(error))
    return design(study.runs, study.subject, expected, study.proposed)


@dataclass(frozen=True)
class Kind:
    """A kind of figure: how it is drawn from a study, whether it needs a fit, and in words what it shows."""

    draw: Callable[[Study], Figure]
    needs_fit: bool
    says: str

    def of(self, study: Study) -> Figure:
        """The figure. Raises ValueError where the study lacks the fit that it needs."""
        if self.needs_fit and study.fit is None:
            raise ValueError("this figure needs a fit: `scaling fit RUNS` writes one, then name its file after RUNS.")
        return self.draw(study)


KINDS: dict[str, Kind] = {
    "isoflop": Kind(
        lambda s: isoflop(s.runs, s.fit, s.approach2),
        False,
        "Loss against parameters at each compute budget, with the fitted law's own curve. Each curve is lowest at the size "
        "that is best for its budget; stars are the vertices of Approach 2's parabolas.",
    ),
    "power-laws": Kind(
        lambda s: power_laws(s.runs, s.subject, s.approach2, s.beside),
        False,
        "The best number of parameters and of tokens, and tokens per parameter, against compute. Grey is what was trained; "
        "the band holds 90% of the bootstrap.",
    ),
    "surface": Kind(
        lambda s: surface(s.runs, s.subject),
        True,
        "The law's loss over parameters and tokens, with the runs and the efficient frontier.",
    ),
    "training-curves": Kind(
        lambda s: training_curves(s.runs, s.approach1),
        False,
        "Loss against the compute spent so far, one line a run, coloured by size; the envelope is Approach 1's.",
    ),
    "residuals": Kind(
        lambda s: residuals(s.runs, s.fit),
        True,
        "Observed over predicted loss against parameters, tokens and compute. A trend here is something that the law does "
        "not describe.",
    ),
    "corner": Kind(
        lambda s: corner(s.subject),
        True,
        "The bootstrap's coefficients: darker regions hold 50% of the draws, lighter 90%. The cross is the fitted value.",
    ),
    "answers": Kind(
        lambda s: answers(s.subject, s.budget),
        True,
        "The bootstrap's answers: the exponent of N*(C), and N*, D* and the loss at one budget.",
    ),
    "profiles": Kind(
        _profiles,
        True,
        "The objective with one coefficient held and the others refitted; shaded is the profile's interval.",
    ),
    "flatness": Kind(
        lambda s: flatness(s.subject, s.budget),
        True,
        "Loss against parameters at one budget, and which sizes lose next to nothing.",
    ),
    "being-off": Kind(
        lambda s: being_off(s.subject, s.budget),
        True,
        "The share of the compute that still counts when a model k times the best size is trained.",
    ),
    "comparison": Kind(
        _comparison,
        False,
        "How well each law predicts budgets that it was not fitted to, and which laws these runs cannot tell apart.",
    ),
    "pareto": Kind(
        lambda s: pareto(s.runs, s.costs),
        False,
        "Loss against what each run cost; the line joins the runs that no other run beats.",
    ),
    "design": Kind(
        _design,
        True,
        "Where the runs lie over parameters and tokens, which to train next, and within what factor N* is known at larger "
        "compute.",
    ),
    "floor": Kind(
        _floor,
        True,
        "The fitted floor E less the least loss that any model can have on a planted corpus, with its interval.",
    ),
    "valleys": Kind(
        lambda s: valleys(s.runs),
        False,
        "Loss against the peak learning rate, one valley for each size, tokens and batch.",
    ),
}
