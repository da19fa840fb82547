"""Subject: the law that is asked, and how far it can be trusted: its draws, its domain, its certificate, its currency."""

from __future__ import annotations

import base64
import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from scaling.currency import Currency
from scaling.fitting import laws
from scaling.fitting.file import opened
from scaling.fitting.laws import Chinchilla, Law


@dataclass(frozen=True)
class Subject:
    """A law with what is known about it. `draws` [S, P] are bootstrap coefficients; None means no intervals.

    `verified` is a fit's certificate, or None for coefficients that came without one.
    """

    law: Law
    label: str
    currency: Currency = field(default_factory=Currency)
    draws: np.ndarray | None = field(default=None, repr=False)
    domain: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    verified: bool | None = None
    digest: str | None = None
    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, source: Any, *, vocab: int | None = None, context: int | None = None) -> Subject:
        """The subject that a Fit, a Law or a Subject stands for; `vocab` and `context` say which shapes, where a fit does not."""
        if isinstance(source, Subject):
            return source
        if isinstance(source, Law):
            count = getattr(source, "count", "N")
            bare = "these coefficients have no certificate and no intervals: they were given, not fitted here."
            return cls(source, source.name, _currency("6ND", count, vocab, context), warnings=(bare,))
        return cls._fitted(source.to_json(), source.draws, vocab, context)

    @classmethod
    def read(cls, path: str | Path, *, vocab: int | None = None, context: int | None = None) -> Subject:
        """The subject in a fit's file, without importing what made it. Raises ValueError naming a file that is no fit."""
        with opened(path) as payload:
            packed = payload["draws"]
            draws = None
            if packed is not None:
                draws = np.frombuffer(base64.b64decode(packed["float64"]), "<f8").reshape(packed["shape"])
            return cls._fitted(payload, draws, vocab, context)

    @classmethod
    def _fitted(
        cls, payload: Mapping[str, Any], draws: np.ndarray | None, vocab: int | None, context: int | None
    ) -> Subject:
        law = laws.from_json(payload)
        runs, warnings = payload["objective"]["n"], []
        if payload["flops"] == "exact" and (vocab is None or context is None):
            shapes = _shapes_of(payload["source"])
            if shapes is None:
                default = Currency()
                shapes = default.vocab, default.context
                warnings.append(
                    f"the runs count exact FLOPs, but {payload['source']} is not here to tell their vocabulary and context: "
                    f"took {shapes[0]} and {shapes[1]}. Give --vocab and --context."
                )
            vocab, context = vocab or shapes[0], context or shapes[1]
        if draws is None:
            warnings.append("the fit has no resamples, so there are no intervals: fit again with --resamples 4000.")
        return cls(
            law=law,
            label=f"{law.name}, fitted to {runs} runs of {payload['source']}",
            currency=_currency(payload["flops"], payload["count"], vocab, context),
            draws=None if draws is None else np.asarray(draws, np.float64),
            domain={name: (float(low), float(high)) for name, (low, high) in payload["domain"].items()},
            verified=bool(payload["certificate"]["verified"]),
            digest=payload["digest"],
            warnings=tuple(warnings),
        )

    def drawn(self, rows: slice | np.ndarray | None = None) -> Law:
        """One law whose coefficients are arrays [S], a resample each."""
        assert self.draws is not None
        return type(self.law)(*self.draws[slice(None) if rows is None else rows].T)

    def decades_beyond(self, **found: float) -> dict[str, float]:
        """For N, D, C: by how many decades the value lies outside what was trained; 0 inside."""
        beyond = {}
        for name, value in found.items():
            if name in self.domain:
                low, high = self.domain[name]
                beyond[name] = max(0.0, float(np.log10(value / high)), float(np.log10(low / value)))
        return beyond


def named(name: str, *, vocab: int | None = None, context: int | None = None) -> Subject:
    """Published coefficients by name, or given ones (E=1.69,A=..). Raises ValueError with the names that are known."""
    if "=" in name:
        return Subject.of(given(name), vocab=vocab, context=context)
    from scaling.fitting.published import PUBLISHED

    if name not in PUBLISHED:
        near = difflib.get_close_matches(name, PUBLISHED, 3, 0.4) or sorted(PUBLISHED)
        raise ValueError(
            f"unknown law {name!r}; the nearest are {', '.join(near)}. Or give E=..,A=..,B=..,alpha=..,beta=.."
        )
    entry = PUBLISHED[name]
    law = getattr(entry, "law", entry)
    bare = "published coefficients come without certificate and intervals: how sure they are is not known here."
    currency = _currency("6ND", getattr(entry, "count", "N"), vocab, context)
    return Subject(law, f"{name} ({entry.source})", currency, warnings=(bare,))


def given(text: str) -> Law:
    """The Chinchilla law in a text like E=1.69,A=406.4,B=410.7,alpha=.34,beta=.28."""
    coefficients: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        try:
            coefficients[name] = float(value)
        except ValueError:
            raise ValueError(f"--law {text!r}: {part!r} is not NAME=NUMBER.") from None
    if set(coefficients) != set(Chinchilla.names()):
        raise ValueError(f"--law {text!r}: needed exactly {', '.join(Chinchilla.names())}.")
    for name, value in coefficients.items():
        if not (np.isfinite(value) and (value > 0 or (name == "E" and value == 0))):
            raise ValueError(f"--law {text!r}: {name} = {value:g} has to be a positive number.")
    return Chinchilla(**coefficients)


def _currency(flops: str, count: str, vocab: int | None, context: int | None) -> Currency:
    sizes = {name: size for name, size in (("vocab", vocab), ("context", context)) if size is not None}
    return Currency(flops, count, **sizes)


def _shapes_of(folder: str) -> tuple[int, int] | None:
    """Vocabulary and context of the records in a folder; None where there are none."""
    from scaling.runs import Run, record_paths

    paths = record_paths(folder) if Path(folder).is_dir() else []
    if not paths:
        return None
    shape = Run.read(paths[0]).spec["shape"]
    return shape["vocab"], shape["context"]
