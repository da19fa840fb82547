"""Figures: one function each, returning a matplotlib Figure in the one shared style."""

from scaling.reporting.figures.corner import answers as answers
from scaling.reporting.figures.corner import corner as corner
from scaling.reporting.figures.decisions import being_off as being_off
from scaling.reporting.figures.decisions import design as design
from scaling.reporting.figures.decisions import flatness as flatness
from scaling.reporting.figures.decisions import pareto as pareto
from scaling.reporting.figures.fits import power_laws as power_laws
from scaling.reporting.figures.fits import residuals as residuals
from scaling.reporting.figures.fits import surface as surface
from scaling.reporting.figures.kinds import KINDS as KINDS
from scaling.reporting.figures.style import dark as dark
from scaling.reporting.figures.style import encode as encode
from scaling.reporting.figures.style import lacks as lacks
from scaling.reporting.figures.style import missing as missing
from scaling.reporting.figures.style import save as save
from scaling.reporting.figures.sweep import has_valleys as has_valleys
from scaling.reporting.figures.sweep import isoflop as isoflop
from scaling.reporting.figures.sweep import training_curves as training_curves
from scaling.reporting.figures.sweep import valleys as valleys
from scaling.reporting.figures.uncertainty import comparison as comparison
from scaling.reporting.figures.uncertainty import floor as floor
from scaling.reporting.figures.uncertainty import profiles as profiles
