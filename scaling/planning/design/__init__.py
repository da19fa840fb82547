"""Which runs to buy before the big one, and whether a grid can answer a question at all."""

from scaling.planning.design.at_hand import NOISE as NOISE
from scaling.planning.design.at_hand import AtHand as AtHand
from scaling.planning.design.at_hand import noise_of as noise_of
from scaling.planning.design.at_hand import resampled as resampled
from scaling.planning.design.cells import Cell as Cell
from scaling.planning.design.cells import candidates as candidates
from scaling.planning.design.design import BYTES as BYTES
from scaling.planning.design.design import Design as Design
from scaling.planning.design.design import Expected as Expected
from scaling.planning.design.design import check as check
from scaling.planning.design.design import design as design
from scaling.planning.design.design import even_grid as even_grid
from scaling.planning.design.information import TARGETS as TARGETS
from scaling.planning.design.information import Target as Target
