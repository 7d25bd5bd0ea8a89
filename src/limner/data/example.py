"""The one protobuf message that TFRecords of the PGGAN kind hold, read by hand.

`tf.train.Example` is a map from names to lists (protobuf's encoding, protobuf.dev/programming-guides/encoding)::

    Example { Features features = 1; }              Features { map<string, Feature> feature = 1; }
    Feature { BytesList bytes_list = 1; or FloatList float_list = 2; or Int64List int64_list = 3; }
    BytesList { repeated bytes value = 1; }         Int64List { repeated int64 value = 1 [packed]; }

Nothing is copied and nothing is allocated by a length in the message, so hostile bytes cost no more than their size.
The reader is stricter than protobuf: what a PGGAN record has no use for is an error, not skipped.
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_DIMENSIONS = 16


class ExampleError(ValueError):
    """The bytes are not such a message; the text says why."""


def parse_example(payload: memoryview) -> dict[str, memoryview]:
    """The features of a serialised Example: name → serialised Feature.

    Raises:
        ExampleError: it is not one, or names a feature twice.
    """
    features: dict[str, memoryview] = {}
    for body in _messages(payload, 1, "Example"):
        for entry in _messages(body, 1, "Features"):
            name, feature = _map_entry(entry)
            if name in features:
                raise ExampleError(f"has the feature '{name}' twice")
            features[name] = feature
    return features


def bytes_value(feature: memoryview) -> memoryview:
    """The value of a feature that holds one string of bytes.

    Raises:
        ExampleError: it holds anything else.
    """
    values = [v for body in _messages(feature, 1, "bytes_list") for v in _messages(body, 1, "value")]
    if len(values) != 1:
        raise ExampleError(f"has {len(values)} strings of bytes, expected one")
    return values[0]


def int64_values(feature: memoryview) -> tuple[int, ...]:
    """The values of a feature that holds a few whole numbers, packed or not.

    Raises:
        ExampleError: it holds anything else, or more than 16.
    """
    values: list[int] = []
    for body in _messages(feature, 3, "int64_list"):
        for number, value in _fields(body):
            if number != 1:
                raise ExampleError(f"has field {number} in int64_list")
            for each in [value] if isinstance(value, int) else _packed(value):
                values.append(each - (1 << 64) if each >> 63 else each)
                if len(values) > _MOST_DIMENSIONS:
                    raise ExampleError(f"has more than {_MOST_DIMENSIONS} numbers")
    return tuple(values)


def _map_entry(entry: memoryview) -> tuple[str, memoryview]:
    name: str | None = None
    feature = entry[:0]
    for number, value in _fields(entry):
        if isinstance(value, int) or number not in (1, 2):
            raise ExampleError(f"has field {number} in the entry of a feature")
        if number == 2:
            feature = value
            continue
        try:
            name = bytes(value[:256]).decode()
        except UnicodeDecodeError as error:
            raise ExampleError("has a feature whose name is not UTF-8") from error
    if name is None:
        raise ExampleError("has a feature without a name")
    return name, feature


def _messages(data: memoryview, wanted: int, where: str) -> Iterator[memoryview]:
    """The fields of number `wanted`, of strings or messages; there must be no others."""
    for number, value in _fields(data):
        if number != wanted or isinstance(value, int):
            raise ExampleError(f"has field {number} where only '{where}' is expected")
        yield value


def _fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(number, value) of each field of a message."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            number_value, at = _varint(data, at)
            yield number, number_value
            continue
        if kind not in (_BYTES, _FIXED64, _FIXED32):
            raise ExampleError(f"has wire type {kind}, which protobuf no longer writes")
        length, at = _varint(data, at) if kind == _BYTES else ({_FIXED64: 8, _FIXED32: 4}[kind], at)
        if length > len(data) - at:
            raise ExampleError(f"has a field of {length} bytes where {len(data) - at} are left")
        yield number, data[at : at + length]
        at += length


def _packed(data: memoryview) -> Iterator[int]:
    at = 0
    while at < len(data):
        value, at = _varint(data, at)
        yield value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number that starts at byte `at`, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ExampleError("ends in the middle of a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, at
    raise ExampleError("has a number of more than 64 bits")
