"""pyarrow, if it is installed.

It has no types of its own, so what comes from it is `Any`, and is taken apart in this package only.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from tipstaff_sdk.errors import ConfigurationError

__all__ = ["pyarrow"]


@cache
def pyarrow(module: str = "") -> Any:
    """pyarrow or one of its modules ("csv", "compute", "parquet").

    Raises ConfigurationError when it is not installed.
    """
    try:
        return importlib.import_module(f"pyarrow.{module}" if module else "pyarrow")
    except ImportError:
        raise ConfigurationError(
            "screening files needs pyarrow, an extra: install it with: pip install"
            " 'tipstaff[screen]'"
        ) from None
