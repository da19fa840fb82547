"""Corpus: what a model is trained on. Tokens on disk, or a planted language whose entropy is known; a held-out split; and
batches as a pure function of the step."""

from scaling.training.corpus.corpus import Corpus as Corpus
from scaling.training.corpus.permute import permuted as permuted
from scaling.training.corpus.planted import Planted as Planted
from scaling.training.corpus.source import Source as Source
from scaling.training.corpus.stored import Stored as Stored
from scaling.training.corpus.tokenizers import SEPARATOR as SEPARATOR
