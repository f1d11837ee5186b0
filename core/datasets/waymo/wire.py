"""The wire format of protocol buffers, as far as Waymo's submissions need it.

A message is a row of fields; each begins with (number << 3 | wire type) as a varint. Wire type 0 is a varint, 2 a
length and as many bytes. https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterator

VARINT, BYTES = 0, 2
Value = int | memoryview


def varint(value: int) -> bytes:
    """An unsigned integer, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def integer(number: int, value: int) -> bytes:
    """A field of an unsigned integer or an enumeration."""
    return varint(number << 3 | VARINT) + varint(value)


def chunk(number: int, content: bytes | str) -> bytes:
    """A field of text, bytes, packed integers or another message."""
    data = content.encode() if isinstance(content, str) else content
    return chunk_head(number, len(data)) + data


def chunk_head(number: int, size: int) -> bytes:
    """What stands before the `size` bytes of such a field."""
    return varint(number << 3 | BYTES) + varint(size)


def fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """The fields of a message, (number, value), in their order.

    Raises:
        ValueError: it ends within a field, or holds a wire type that submissions do not have.
    """
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        value, at = _read_varint(message, at)
        if key & 7 == VARINT:
            yield key >> 3, value
        elif key & 7 == BYTES:
            if at + value > len(message):
                raise ValueError(f"field {key >> 3} ends after the message")
            yield key >> 3, message[at : at + value]
            at += value
        else:
            raise ValueError(f"field {key >> 3} has wire type {key & 7}")


def _read_varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise ValueError("a number ends after the message")
