"""What sources give: rows in columns, some of them wrong already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Batch"]


@dataclass(frozen=True)
class Batch:
    """Some rows in order.

    Columns are Arrow arrays of UTF-8 and of one length; null is a text that cannot be read.

    kinds, key: None where there is no such column. services: by attribute of the measure. rejects:
    rows that are not in the columns, by their place among all rows of the batch, from 0; each with
    its reason. rows: how many there are in all. places: (len(numbers),) int64, where each row of
    the columns stands among them; None: they are all.
    """

    numbers: Any
    names: Any
    kinds: Any
    services: Mapping[str, Any]
    key: Any
    rows: int
    places: NDArray[np.int64] | None
    rejects: Sequence[tuple[int, str]]
