"""Laws as they were published. N in parameters, D in tokens, loss in nats per token, in all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scaling.fitting.laws import Chinchilla, DataConstrained, Granular, Kaplan, Law, Precision, Routed, Sparse


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
    "kaplan": Published(
        Kaplan(Nc=6.4e13, Dc=1.8e13, aN=0.076, aD=0.103),
        "Kaplan et al. 2020, arXiv 2001.08361, table 2",
        "N without embeddings; one learning-rate schedule for all lengths, which is most of why its a is so large.",
        "N_nonembedding",
    ),
    "muennighoff": Published(
        DataConstrained(
            E=math.exp(0.6254804), A=math.exp(6.255414), B=math.exp(7.3049974), alpha=0.3526596, beta=0.3526596,
            R_D=15.387756, R_N=5.309743,
        ),
        "Muennighoff et al. 2023, arXiv 2305.16264, unrounded from its code",
        "Needs the column U, unique tokens, wherever tokens repeat.",
    ),
    "kumar": Published(
        Precision(
            E=2.7648, A=4.299e3, B=1.806e4, alpha=0.4965, beta=0.4965, gamma_w=2.6745, gamma_a=2.2102, gamma_kv=0.9578
        ),
        "Kumar et al. 2024, arXiv 2411.04330, appendix K",
        "The form was checked at second hand (equations 3 and 4), the coefficients were not. "
        "N without embeddings, 30M to 220M; columns P_w, P_a, P_kv in bits.",
        "N_nonembedding",
    ),
    # Logarithms to the base 10, with which one expert (X = 1.847) has the loss of the paper's dense law:
    # log10 L = a log10 N + b log10 X + c log10 N log10 X + d.
    "clark-s-base": Published(
        Routed(a=-0.082, b=-0.108, c=0.009 / math.log(10), d=1.104 * math.log(10)),
        "Clark et al. 2022, arXiv 2202.01169, equation 1 and table 3, S-BASE routing",
        "Checked at second hand: public reading notes give the same numbers; the logarithms' base by its dense law. "
        "X is the number of experts after the paper's saturation, between 1.847 and 314.478.",
    ),
    "krajewski": Published(
        Granular(E=0.47, A=18.1, B=30.8, g=2.1, alpha=0.115, beta=0.147, gamma=0.58),
        "Krajewski et al. 2024, arXiv 2402.07871, equation 9 and table 1",
        "Checked at second hand: public reading notes give the same numbers. "
        "64-fold expansion throughout; column G, granularity.",
    ),
    "abnar": Published(
        Sparse(
            E=0.94, A=16612.50, B=5455.67, c=0.4598, d=17.26, alpha=0.5962, beta=0.3954, gamma=0.1595, delta=0.1603,
            lam=-0.1666,
        ),
        "Abnar et al. 2025, arXiv 2501.12370, equation 6 and table 3",
        "Checked at second hand: reading notes and a program, both public, give the same numbers. "
        "N counts all parameters; column S, the share that is idle.",
    ),
}  # fmt: skip
