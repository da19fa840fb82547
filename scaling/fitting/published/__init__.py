"""Published coefficients, and loaders of published tables of runs, each with its source."""

from scaling.fitting.published.coefficients import PUBLISHED as PUBLISHED
from scaling.fitting.published.coefficients import Published as Published
from scaling.fitting.published.tables import TABLES as TABLES
from scaling.fitting.published.tables import load as load
