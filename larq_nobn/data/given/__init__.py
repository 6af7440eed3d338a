"""Images that a caller hands over."""

from ._arrays import Given
from ._handing import given, handed_over
from ._name import GIVEN
from ._streams import Streams

__all__ = ["GIVEN", "Given", "Streams", "given", "handed_over"]
