"""Figures as people read them: three significant digits, and the unit that suits the size."""

from autoprivacy.protocol.linear_layer import AnyTile
from autoprivacy.protocol.slot_packing import SlotTile


def _digits(value: float) -> str:
    """Three significant digits, without an exponent below a million.

    >>> [_digits(value) for value in (0.0, 0.01234, 1.5, 12.345, 1234.5)]
    ['0', '0.0123', '1.50', '12.3', '1234']
    """
    if value == 0:
        return "0"
    places = 2
    limit = 10.0
    while places > 0 and abs(value) >= limit:
        places, limit = places - 1, 10 * limit
    while abs(value) < limit / 10 and places < 6:
        places, limit = places + 1, limit / 10
    return f"{value:.{places}f}"


def seconds(value: float | None) -> str:
    """A time.

    >>> [seconds(value) for value in (12.3, 0.011, 4.2e-5, 0.0, None)]
    ['12.3 s', '11.0 ms', '42.0 µs', '0', '-']
    """
    if value is None:
        return "-"
    if value == 0:
        return "0"
    for unit, scale in (("s", 1.0), ("ms", 1e3)):
        if value * scale >= 1:
            return f"{_digits(value * scale)} {unit}"
    return f"{_digits(value * 1e6)} µs"


def milliseconds(value: float) -> str:
    """A time in milliseconds, for columns whose head says so.

    >>> milliseconds(0.00123)
    '1.23'
    """
    return _digits(1000 * value)


def size(value: float | None) -> str:
    """Bytes, in powers of 1000.

    >>> [size(value) for value in (0, 999, 123456, 1.5e9, None)]
    ['0 B', '999 B', '123 kB', '1.50 GB', '-']
    """
    if value is None:
        return "-"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= scale:
            return f"{_digits(value / scale)} {unit}"
    return f"{value:.0f} B"


def rate(value: float | None) -> str:
    """Bytes a second as bits a second, as links are named.

    >>> [rate(value) for value in (125e6, 5e7, None)]
    ['1.00 Gbit/s', '400 Mbit/s', '-']
    """
    if value is None:
        return "-"
    bits_per_s = 8 * value
    return f"{_digits(bits_per_s / 1e9)} Gbit/s" if bits_per_s >= 1e9 else f"{_digits(bits_per_s / 1e6)} Mbit/s"


def percent(value: float) -> str:
    """A share.

    >>> percent(0.1234)
    '12.3 %'
    """
    return f"{100 * value:.1f} %"


def count(value: int) -> str:
    """A whole number with its thousands apart.

    >>> count(1234567)
    '1,234,567'
    """
    return f"{value:,}"


def bits(primes: tuple[int, ...]) -> str:
    """Bit lengths of primes.

    >>> bits((65537, 7))
    '17 + 3'
    """
    return " + ".join(str(prime.bit_length()) for prime in primes)


def tile(value: AnyTile) -> str:
    """Channels in and out, height and width."""
    shape = value.window if isinstance(value, SlotTile) else (value.height, value.width)
    return f"{value.in_channels}x{value.out_channels}x{shape[0]}x{shape[1]}"
