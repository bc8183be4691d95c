"""The fields of one row as JSON has them: their types, checked strictly, and how rows become what a problem reads.

A row of a table has the columns that its problem names, and a picture or another array is a row with one field, which
holds its values or, of a picture, its file.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, NotRequired

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    with_config,
)

from modelkeep.errors import ModelkeepError
from problems.outline.images import FORMATS
from problems.outline.problem import Rows, Stack
from problems.outline.raw import EXPECTED, PARSERS, BadInput

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from pandas.api.extensions import ExtensionArray

Row = Mapping[str, Any]

FILE_EXPECTED = f"the file of a picture ({', '.join(FORMATS)}), as base64"


class FileInvalid(ModelkeepError):
    """The file of a picture cannot be read; `field` is its place in the request."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason, where=field, expected=FILE_EXPECTED)
        self.field = field


def _without_point(value: object) -> object:
    """3.0 is a whole number in JSON as 3 is."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_without_point)]


def row_type(name: str, form: Rows | Stack, rules: Mapping[str, str] | None = None) -> Any:
    """A TypedDict whose keys are the fields, for pydantic: strict, and without NaN and infinities.

    `rules` are put beside the types where the fields are described.
    """
    from typing_extensions import TypedDict

    fields: dict[str, Any]
    if isinstance(form, Stack):
        array = _array(form.dtype, form.shape)
        fields = {form.name: _array_or_file(array) if form.decode else array}
    else:
        rules = rules or {}
        fields = {column: _value(kind, rules.get(column, "")) for column, kind in form.columns.items()}
        fields |= {column: NotRequired[_value("str")] for column in form.ids}
    row = TypedDict(f"{name}_row", fields)  # type: ignore[misc]
    return with_config(ConfigDict(strict=True, allow_inf_nan=False))(row)


def _value(kind: str, rule: str = "") -> Any:
    """A field of a table; null stands for a missing value."""
    described = Field(description=f"{EXPECTED[kind]}; {rule}" if rule else EXPECTED[kind])
    if kind == "date":
        parsed = BeforeValidator(_parse_date, json_schema_input_type=str | None)
        return Annotated[Any, parsed, described]
    if kind == "int64":
        return Annotated[Annotated[WholeNumber, Field(ge=-(2**63), le=2**63 - 1)] | None, described]
    if kind == "str":
        return Annotated[Annotated[str, AfterValidator(require_unicode)] | None, described]
    return Annotated[(bool if kind == "bool" else float) | None, described]


def require_unicode(text: str) -> str:
    """JSON can write halves of a character, which no file could hold. Raises ValueError."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("expected text of whole characters") from None
    return text


def _parse_date(value: object) -> object:
    """Raises ValueError."""
    if value is None:
        return None
    try:
        return PARSERS["date"](value if isinstance(value, str) else "")
    except ValueError:
        raise ValueError(f"expected {EXPECTED['date']}") from None


def _array(dtype: str, shape: Sequence[int]) -> Any:
    """Lists in lists, of exactly this shape."""
    import numpy as np

    kind = np.dtype(dtype)
    value: Any = float
    if kind.kind in "iu":
        value = Annotated[int, Field(ge=int(np.iinfo(kind).min), le=int(np.iinfo(kind).max))]
    for size in reversed(shape):
        value = Annotated[list[value], Field(min_length=size, max_length=size)]
    return value


def _array_or_file(array: Any) -> Any:
    """Of a text its bytes, which `decode_files` makes an array of."""

    def read(value: object, read_array: ValidatorFunctionWrapHandler) -> object:
        if not isinstance(value, str):
            return read_array(value)
        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            raise ValueError("expected the file of a picture as base64") from None

    described = Field(description=FILE_EXPECTED, json_schema_extra={"contentEncoding": "base64"})
    return Annotated[array, WrapValidator(read, json_schema_input_type=Annotated[str, described] | array)]


def decode_files(form: Stack, rows: Sequence[Row]) -> list[Row]:
    """The rows with arrays in place of the files of pictures. Raises FileInvalid."""
    decoded: list[Row] = []
    for place, row in enumerate(rows):
        value = row[form.name]
        if isinstance(value, bytes):
            assert form.decode is not None  # else files are refused before
            try:
                value = form.decode(value, "")
            except BadInput as fault:
                raise FileInvalid(f"rows[{place}].{form.name}", f"{fault.what} Received {fault.received}") from None
        decoded.append({form.name: value})
    return decoded


def to_content(form: Rows | Stack, rows: Sequence[Row]) -> Any:
    """Rows (n) of these fields as a problem's `inputs` takes them: a frame with its columns, or an array (n, …)."""
    import numpy as np
    import pandas as pd

    if isinstance(form, Stack):
        return np.array([row[form.name] for row in rows], form.dtype)
    names = tuple(form.columns)
    if set(form.columns.values()) == {"float64"}:  # as one block, which pandas reads several times as fast
        values = [[math.nan if (value := row[name]) is None else value for name in names] for row in rows]
        return pd.DataFrame(np.array(values, np.float64), columns=_labels(names))
    texts = _texts(form, rows)
    columns = [
        texts[name] if kind == "str" else _column(kind, [row[name] for row in rows])
        for name, kind in form.columns.items()
    ]
    frame = pd.DataFrame(dict(enumerate(columns)), copy=False)
    frame.columns = _labels(names, _text())
    return frame


@lru_cache
def _labels(names: tuple[str, ...], dtype: pd.StringDtype[Any] | None = None) -> pd.Index:
    """The same for every batch: pandas builds a table of names into each new one, which takes longer than a model."""
    import pandas as pd

    return pd.Index(names, dtype=dtype)


@cache
def _text() -> pd.StringDtype[Any]:
    """Not Arrow's form, in which a few texts take longer than a model does, be they values or names."""
    import pandas as pd

    return pd.StringDtype("python", na_value=math.nan)


def ids_of(form: Rows | Stack, rows: Sequence[Row]) -> dict[str, list[str | None]]:
    """The columns that name the rows, for those that any row has."""
    names = [name for name in getattr(form, "ids", ()) if any(name in row for row in rows)]
    return {name: [row.get(name) for row in rows] for name in names}


def _texts(form: Rows, rows: Sequence[Row]) -> dict[str, ExtensionArray]:
    """The columns of texts: slices of one array, since each that is made takes ten times as long."""
    import pandas as pd

    names = [name for name, kind in form.columns.items() if kind == "str"]
    missing = form.missing_values
    values = [None if (value := row[name]) in missing else value for name in names for row in rows]
    array = pd.array(values, dtype=_text())
    return {name: array[place * len(rows) : (place + 1) * len(rows)] for place, name in enumerate(names)}


def _column(kind: str, values: list[Any]) -> np.ndarray:
    """In the dtypes that a table of a file has: where values are missing int64 becomes float64, bool becomes object."""
    import numpy as np

    if kind == "date":
        return np.array(values, "datetime64[us]")
    has_gaps = None in values
    if kind == "bool":
        return np.array(values, object if has_gaps else bool)
    if kind == "int64" and not has_gaps:
        return np.array(values, np.int64)
    return np.array([math.nan if value is None else value for value in values], np.float64)
