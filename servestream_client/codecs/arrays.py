"""NumPy arrays, whose element type and shape both ends have agreed on."""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from servestream_client.errors import ConfigurationError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    _In = TypeVar("_In", bound=np.generic)
    _Out = TypeVar("_Out", bound=np.generic)
else:
    _In = TypeVar("_In")
    _Out = TypeVar("_Out")

__all__ = ["ArraySpec", "NumpyCodec"]

_MOST_DIMENSIONS = 32


class ArraySpec(Generic[_In]):
    """What every array on one side of a stream looks like.

    Args:
        dtype: the element type: booleans, numbers, fixed-width text, dates, or a structure of
            these. No objects: nothing is ever unpickled.
        shape: the length of each dimension; None: of any length, in each array another one.

    Raises:
        ConfigurationError: NumPy is not installed, or that is no such type or shape.
    """

    def __init__(
        self, dtype: type[_In] | np.dtype[_In] | str, shape: Sequence[int | None] = ()
    ) -> None:
        try:
            import numpy as np  # noqa: PLC0415 — an extra
        except ImportError:
            raise ConfigurationError(
                "NumpyCodec needs NumPy: pip install 'servestream-client[numpy]'"
            ) from None
        try:
            self.dtype: np.dtype[Any] = np.dtype(dtype)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"no element type of arrays: {dtype!r}: {error}") from None
        if self.dtype.hasobject or not self.dtype.itemsize or self.dtype.subdtype is not None:
            raise ConfigurationError(f"arrays of {self.dtype} have no fixed layout in memory")
        if not _portable(self.dtype):
            raise ConfigurationError(
                f"arrays of {self.dtype}: NumPy's longdouble differs between machines; use float64"
            )
        self.shape: tuple[int | None, ...] = _lengths(shape)
        if len(self.shape) > _MOST_DIMENSIONS:
            raise ConfigurationError(f"arrays have at most {_MOST_DIMENSIONS} dimensions")
        self._wire: np.dtype[Any] = self.dtype.newbyteorder("<")
        self._free = [axis for axis, length in enumerate(self.shape) if length is None]
        self._header = struct.Struct(f"<{len(self._free)}I")
        self._numpy = np
        self._native: np.dtype[Any] = self.dtype.newbyteorder("=")

    def encode(self, array: npt.NDArray[_In] | _In, /) -> bytes:
        """The lengths that the shape leaves open, each as uint32, and the elements in C order, all
        of it little-endian.

        Raises:
            TypeError: it is no array, or of another element type.
            ValueError: it is of another shape.
        """
        if not self.shape and isinstance(array, self._numpy.generic):
            array = self._numpy.asarray(array)  # arithmetic makes scalars of arrays without shape
        masked = isinstance(array, self._numpy.ma.MaskedArray)
        if masked or not isinstance(array, self._numpy.ndarray):
            raise TypeError(f"expected an array {self}, got {type(array).__name__}")
        if array.dtype != self.dtype and array.dtype.newbyteorder("=") != self._native:
            raise TypeError(f"expected an array {self}, got {array.dtype}")
        if not self._fits(array.shape):
            raise ValueError(f"expected an array {self}, got the shape {list(array.shape)}")
        free = self._header.pack(*(array.shape[axis] for axis in self._free))
        return free + array.astype(self._wire, order="C", copy=False).tobytes()

    def decode(self, payload: bytes, /) -> npt.NDArray[_In]:
        """An array that reads the payload where it lies, and so cannot be written to.

        Raises:
            ValueError: that is no such array.
        """
        if len(payload) < self._header.size:
            raise ValueError(f"not an array {self}: {len(payload)} bytes")
        lengths = iter(self._header.unpack_from(payload))
        shape = [next(lengths) if length is None else length for length in self.shape]
        expected = self._header.size + math.prod(shape) * self._wire.itemsize
        if len(payload) != expected:
            raise ValueError(
                f"not an array {self}: {len(payload)} bytes, and {shape} takes {expected}"
            )
        flat = self._numpy.frombuffer(payload, dtype=self._wire, offset=self._header.size)
        return flat.reshape(shape).astype(self.dtype, copy=False)

    def _fits(self, shape: tuple[int, ...]) -> bool:
        return len(shape) == len(self.shape) and all(
            wanted is None or wanted == length
            for wanted, length in zip(self.shape, shape, strict=True)
        )

    def __reduce__(self) -> tuple[type, tuple[np.dtype[Any], tuple[int | None, ...]]]:
        # Serve pickles a deployment's class, and `struct.Struct` cannot be.
        return type(self), (self.dtype, self.shape)

    def __str__(self) -> str:
        lengths = ", ".join("*" if length is None else str(length) for length in self.shape)
        name = str(self.dtype.newbyteorder("=")) if self.dtype.fields else self.dtype.name
        return f"{name}[{lengths}]"

    def __repr__(self) -> str:
        return f"ArraySpec({self.dtype.name!r}, {self.shape!r})"


def _portable(dtype: np.dtype[Any]) -> bool:
    if dtype.subdtype is not None:
        return _portable(dtype.subdtype[0])
    if dtype.fields is not None:
        return all(_portable(field[0]) for field in dtype.fields.values())
    return dtype.char not in "gG"


def _lengths(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    try:
        lengths = [None if length is None else operator.index(length) for length in shape]
    except TypeError:
        raise ConfigurationError(
            f"a shape is a sequence of lengths, such as (3, None), not {shape!r}"
        ) from None
    for length in lengths:
        if length is not None and length < 0:
            raise ConfigurationError(f"a length is a number from 0 on, or None: {length!r}")
    return tuple(lengths)


class NumpyCodec(Generic[_In, _Out]):
    """NumPy arrays in, NumPy arrays out. Element types and shapes are part of the fingerprint.

    Decoded arrays are read-only views of what was received: copy one to change it.

    Args:
        inputs: what an input looks like.
        outputs: likewise.
    """

    id = "numpy"

    def __init__(self, inputs: ArraySpec[_In], outputs: ArraySpec[_Out]) -> None:
        for given in (inputs, outputs):
            if not isinstance(given, ArraySpec):
                raise ConfigurationError(f"NumpyCodec takes two ArraySpec, not {given!r}")
        self._inputs = inputs
        self._outputs = outputs

    @property
    def fingerprint(self) -> str:
        return f"{self._inputs} -> {self._outputs}"

    def encode_input(self, item: npt.NDArray[_In], /) -> bytes:
        return self._inputs.encode(item)

    def decode_input(self, payload: bytes, /) -> npt.NDArray[_In]:
        return self._inputs.decode(payload)

    def encode_output(self, output: npt.NDArray[_Out], /) -> bytes:
        return self._outputs.encode(output)

    def decode_output(self, payload: bytes, /) -> npt.NDArray[_Out]:
        return self._outputs.decode(payload)

    def __repr__(self) -> str:
        return f"NumpyCodec({self._inputs!r}, {self._outputs!r})"
