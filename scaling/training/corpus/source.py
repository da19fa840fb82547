"""Source: a synthetic language whose entropy is known, and how a stretch of it is drawn.

A token is drawn in two steps. A rank r comes from one fixed Zipf distribution w, independent of everything before.
What came before then says which symbol has that rank: `table[topic, last symbol, r ^ flips]`. For every past this is a bijection
from ranks to symbols, so the next symbol's distribution is w in another order, and its entropy given the past and the
topic is H(w): no integral, no sampling.

The flips make structure at every scale. Level j looks at the last symbol and j bits of those before it, so each level has twice
as many contexts as the one before; a hash says which of them are exceptions, a share that falls by `decay` a level, and which
low bits of the rank these exchange. Who has learned all contexts down to level J misses about decay^J: the excess loss falls as a
power law of the contexts learned, n^(-log2(1/decay)), smoothly, all the way to the floor. `table` prefers popular symbols, so
symbols too are Zipf-like.
"""

from __future__ import annotations

import functools
import hashlib
import math
from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

#: Version of what `draw` does with a definition; a new number gives every source a new digest.
VERSION = 1

#: Windows in one step of the average that estimates the topics' share of the block entropy.
TOPIC_WINDOWS = 4_096


@dataclass(frozen=True)
class Source:
    """A planted language over 2^bits symbols (at most 256).

    `zipf` is the exponent of the rank weights w_r ~ (r + 1)^-zipf, `popularity` that of the symbols' share of the table.
    Of the contexts of level j = 0 .. levels - 1, share decay^j are exceptions, which exchange the low `touched` bits of the
    rank. Each window is of one of `topics` topics, all alike in chance, each with its own table.
    """

    seed: int
    bits: int
    zipf: float
    popularity: float
    levels: int
    share: float
    decay: float
    touched: int
    topics: int = 1

    @property
    def vocab(self) -> int:
        """Number of symbols."""
        return 1 << self.bits

    @property
    def orders(self) -> int:
        """Symbols of the past that the next one depends on."""
        return 1 + math.ceil(self.levels / self.bits)

    @functools.cached_property
    def digest(self) -> str:
        """Hash of the definition, the version, and the tables drawn from them."""
        said = repr((VERSION, sorted(asdict(self).items()))).encode()
        return hashlib.sha256(said + self.table.tobytes() + self.thresholds.tobytes()).hexdigest()[:16]

    @functools.cached_property
    def thresholds(self) -> np.ndarray:
        """Cumulative rank weights in units of 2^-32, uint64 [vocab + 1]: rank r has the 32-bit numbers in [t_r, t_r+1)."""
        weights = np.arange(1, self.vocab + 1, dtype=np.float64) ** -self.zipf
        inner = np.round(np.cumsum(weights / weights.sum())[:-1] * 2**32).astype(np.uint64)
        return np.concatenate([[np.uint64(0)], inner, [np.uint64(2**32)]])

    @functools.cached_property
    def weights(self) -> np.ndarray:
        """The chance of each rank, exactly as it is drawn, float64 [vocab]."""
        return np.diff(self.thresholds).astype(np.float64) / 2**32

    @functools.cached_property
    def table(self) -> np.ndarray:
        """The symbol of each rank after each symbol, uint8 [topics, vocab, vocab]: every row a permutation.

        Rows are Plackett-Luce draws (Gumbel noise on log popularity) from the raw stream of a Philox generator.
        """
        V, K = self.vocab, self.topics
        raw = np.random.Philox(key=self.seed).random_raw(K * V * V) >> np.uint64(11)
        gumbel = -np.log(-np.log((raw.astype(np.float64) + 0.5) * 2.0**-53))
        score = gumbel.reshape(K, V, V) - self.popularity * np.log(np.arange(1, V + 1))
        return np.argsort(-score, axis=-1, kind="stable").astype(np.uint8)

    @functools.cached_property
    def entropy_rate(self) -> float:
        """Nats per token as the context grows without end: H(w), exact to float64's rounding.

        With several topics too: a window that never ends gives its topic away.
        """
        w = self.weights[self.weights > 0]
        return float(-(w * np.log(w)).sum())

    @functools.lru_cache(maxsize=32)  # noqa: B019 (sources are few and small)
    def block_entropy(self, context: int, windows: int = TOPIC_WINDOWS) -> tuple[float, float]:
        """H(x1..xT) / T of a window of `context` = T tokens, nats per token, and its standard error.

        H(x1..xT) = T H(w) + H(topic) - H(topic | x1..xT). With one topic that is H(w), exact, with error 0. With more, the
        last term is the mean entropy of the topic's posterior, by the forward algorithm over `windows` windows of the
        stream "entropy": it is nearly 0 at the end of a window, so its error is too.
        """
        if self.topics == 1:
            return self.entropy_rate, 0.0
        token = np.asarray(draw(self, stream_key(self.digest, "entropy"), 0, 0, windows, context))
        posterior = posterior_entropy(self, token)
        known = self.entropy_rate + math.log(self.topics) / context
        return known - float(posterior.mean()) / context, float(posterior.std(ddof=1) / math.sqrt(windows)) / context

    def log_likelihood(self, token: np.ndarray, topic: int) -> np.ndarray:
        """log p(x1..xT | topic) of each window [W, T + 1] that begins with the start symbol, nats, float64 [W]."""
        rank_of = np.argsort(self.table[topic], axis=-1)
        with np.errstate(divide="ignore"):
            log_weights = np.log(self.weights)
        past = np.zeros((self.orders, len(token)), np.uint32)  # the latest symbol first
        total = np.zeros(len(token))
        for t in range(1, token.shape[1]):
            rank = rank_of[past[0], token[:, t]] ^ np.asarray(_flips(self, past)).astype(np.int64)
            total += log_weights[rank]
            past = np.concatenate([token[None, :, t].astype(np.uint32), past[:-1]])
        return total


def posterior_entropy(source: Source, token: np.ndarray) -> np.ndarray:
    """H(topic | x1..xT) of each window [W, T + 1], nats, float64 [W]."""
    log_p = np.stack([source.log_likelihood(token, topic) for topic in range(source.topics)])
    log_p -= log_p.max(0)
    p = np.exp(log_p)
    total = p.sum(0)
    return np.log(total) - (p * np.where(p > 0, log_p, 0.0)).sum(0) / total


def stream_key(digest: str, stream: str) -> np.ndarray:
    """The key of a named stream of windows of a source, uint32 [2]."""
    return np.frombuffer(hashlib.sha256(f"{digest}/{stream}".encode()).digest()[:8], "<u4").astype(np.uint32)


def draw(source: Source, key: np.ndarray, high: int, low: int, windows: int, context: int) -> jax.Array:
    """Windows [high * 2^32 + low, ... + windows) of the stream of this key, uint8 [windows, context + 1], on the device.

    Each begins with symbol 0, which is given, and is a pure function of source, key and its number. `windows` is
    compiled in. The random words are threefry's of (key, number, place): one key never gives the same pair of words twice.
    """
    return _draw(source, key, np.uint32(high), np.uint32(low), windows, context)


@functools.partial(jax.jit, static_argnums=(0, 4, 5))
def _draw(source, key, high, low, windows, context):
    number_W = low + jnp.arange(windows, dtype=jnp.uint32)
    carried_W = high + (number_W < low).astype(jnp.uint32)
    place_T = jnp.arange(context + 1, dtype=jnp.uint32)
    counts = jnp.stack(
        [
            jnp.broadcast_to(number_W[None, :], (context + 1, windows)),
            place_T[:, None] + (carried_W << 16)[None, :],  # contexts are below 2^16
        ]
    )
    word_TW = threefry_2x32(key, counts)[0]
    topic_W = (word_TW[0] >> 8) % np.uint32(source.topics)
    inner = jnp.asarray(source.thresholds[1:-1].astype(np.uint32))
    rank_TW = sum((word_TW[1:] >= edge).astype(jnp.uint32) for edge in inner)
    table = jnp.asarray(source.table.reshape(-1))
    V = np.uint32(source.vocab)

    def step(past, rank_W):
        row_W = (topic_W * V + past[0]) * V
        symbol_W = table[row_W + (rank_W ^ _flips(source, past))]
        return jnp.concatenate([symbol_W[None].astype(jnp.uint32), past[:-1]]), symbol_W

    past = jnp.zeros((source.orders, windows), jnp.uint32)
    _, token_TW = jax.lax.scan(step, past, rank_TW)
    return jnp.concatenate([jnp.zeros((windows, 1), jnp.uint8), token_TW.T], axis=1)


def _flips(source: Source, past):
    """The bits of the rank that the exceptions of a past exchange, uint32 [W]; `past` is uint32 [orders, W]."""
    code = _mix(past[0] + np.uint32(source.seed * 0x9E3779B9 % 2**32))
    flips, touched = past[0] & np.uint32(0), np.uint32((1 << source.touched) - 1)
    for level in range(source.levels):
        bit = (past[1 + level // source.bits] >> np.uint32(level % source.bits)) & np.uint32(1)
        code = _mix(code * np.uint32(0x01000193) + bit)
        share = np.uint32(round(source.share * source.decay**level * 2**16))
        flips = flips ^ ((code & touched) * ((code >> 16) < share))
    return flips


def _mix(x):
    """A bijection of 32-bit words with little bias (lowbias32; Wellons 2018)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
