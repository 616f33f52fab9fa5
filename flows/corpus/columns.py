"""Arrow columns as Python values, where damaged or badly encoded strings must not end a file or the process."""

import json
from typing import Any

import pyarrow as pa


def values(array: pa.Array) -> list[Any]:
    """The values of an array; strings that are not UTF-8 stay bytes, fields of structs that are null are left out.

    All rows of a table have the same fields, so that a null field is one that this row does not have. Columns that
    are declared to hold JSON (`arrow.json`, as the package `datasets` stores rows that differ in shape) are parsed.

    Raises:
        pa.ArrowInvalid: if offsets point outside of the data (which Arrow itself does not look at).
    """
    array = _sound(array)
    try:
        found = array.to_pylist()
    except UnicodeDecodeError:
        found = [_decoded(value) for value in array.view(_bytes_type(array.type)).to_pylist()]
    return [_shaped(value, array.type) for value in found] if _has_shape(array.type) else found


def _sound(array: pa.Array) -> pa.Array:
    """The array, not as a dictionary, its offsets checked; as bytes, since Arrow's check refuses what is not UTF-8."""
    if isinstance(array, pa.DictionaryArray):
        return _sound(array.dictionary).take(array.indices)
    array.view(_bytes_type(array.type)).validate(full=True)
    return array


def _bytes_type(kind: pa.DataType) -> pa.DataType:
    """The type of the same buffers with bytes in place of strings."""
    if isinstance(kind, pa.BaseExtensionType):
        return _bytes_type(kind.storage_type)
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_bytes_type(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_bytes_type(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([part.with_type(_bytes_type(part.type)) for part in kind])
    return _BYTES.get(kind, kind)


_BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}


def _decoded(value: Any) -> Any:
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if isinstance(value, dict):
        return {key: _decoded(item) for key, item in value.items()}
    try:
        return value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        return value


def _has_shape(kind: pa.DataType) -> bool:
    return pa.types.is_nested(kind) or isinstance(kind, pa.BaseExtensionType)


def _shaped(value: Any, kind: pa.DataType) -> Any:
    """A value of a type with its JSON parsed and without the null fields of its structs."""
    if value is None:
        return None
    if isinstance(kind, pa.BaseExtensionType):
        return _parsed(value) if kind.extension_name == "arrow.json" else value
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_shaped(item, kind.value_type) for item in value]
    if pa.types.is_struct(kind):
        return {part.name: _shaped(value[part.name], part.type) for part in kind if value[part.name] is not None}
    return value


def _parsed(value: Any) -> Any:
    try:
        return json.loads(value)
    except (ValueError, TypeError):  # no JSON after all: the row's own check says what is wrong with it
        return value
