"""Laws as they were published. N in parameters, D in tokens, loss in nats per token, in all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaling.fitting.laws import Chinchilla, Law


@dataclass(frozen=True)
class Published:
    """A law with the coefficients that a paper gives, where it gives them, and what to know before using them."""

    law: Law
    source: str
    note: str = ""
    count: str = "N"


#: Name -> the law as published.
PUBLISHED: dict[str, Published] = {
    "hoffmann": Published(
        Chinchilla(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28),
        "Hoffmann et al. 2022, arXiv 2203.15556, equation 10",
        "Rounded in print, which alone moves D/N at 5.76e23 FLOPs from 59 to 93; see hoffmann-tex.",
    ),
    "hoffmann-tex": Published(
        Chinchilla(
            E=math.exp(0.5267228), A=math.exp(6.0073404), B=math.exp(6.0179186), alpha=0.33917084, beta=0.2849083
        ),
        "Hoffmann et al. 2022, arXiv 2203.15556, TeX source of section D.3",
        "The same fit unrounded. It had not reached its optimum (Besiroglu et al. 2024).",
    ),
    "besiroglu": Published(
        Chinchilla(E=1.8172, A=482.01, B=2085.43, alpha=0.3478, beta=0.3658),
        "Besiroglu et al. 2024, arXiv 2404.10102, the headline equation (table 1 prints E 1.8169, beta .3659)",
        "240 runs read off Hoffmann et al.'s Figure 4; in effect least absolute deviations of log loss.",
    ),
    "besiroglu-huber": Published(
        Chinchilla(E=1.81722, A=477.83, B=2143.4, alpha=0.34731, beta=0.36717),
        "the optimum of Hoffmann et al.'s own objective (log-Huber, delta 1e-3, summed) on Besiroglu et al.'s 240 runs",
        "`scaling reproduce besiroglu` finds it again.",
    ),
    "czech": Published(
        Chinchilla(
            E=1.9051, A=4.0005 * 1e6**0.3511, B=1.0509 * 1e9**0.4587, alpha=0.3511, beta=0.4587
        ),
        "Czech et al. 2026, arXiv 2603.22339",
        "Squared error on the 217 runs of Besiroglu et al. with C < 1e21; published for N in millions, D in billions.",
    ),
}  # fmt: skip
