import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from servestream_client import ArraySpec, ConfigurationError, NumpyCodec

IMAGES = ArraySpec(np.uint8, (None, 8, 8))
SCORES = ArraySpec("float32", (10,))


@given(st.data())
def test_what_is_encoded_is_decoded(data):
    dtype = data.draw(
        st.one_of(
            arrays.scalar_dtypes(),
            arrays.byte_string_dtypes(min_len=1),
            arrays.unicode_string_dtypes(min_len=1),
        )
    )
    array = data.draw(arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0)))
    shape = [data.draw(st.sampled_from([None, length])) for length in array.shape]
    spec = ArraySpec(array.dtype, shape)
    decoded = spec.decode(spec.encode(array))
    assert decoded.dtype == array.dtype
    assert decoded.shape == array.shape
    np.testing.assert_array_equal(decoded, array)


def test_the_layout_on_the_wire():
    codec = ArraySpec(">i2", (None, 2))
    array = np.array([[1, 2], [3, 4]], ">i2")
    assert codec.encode(array) == bytes([2, 0, 0, 0, 1, 0, 2, 0, 3, 0, 4, 0])
    assert codec.encode(np.asfortranarray(array)) == codec.encode(array)


def test_what_is_decoded_reads_the_payload_where_it_lies():
    decoded = SCORES.decode(SCORES.encode(np.arange(10, dtype=np.float32)))
    assert not decoded.flags.writeable
    assert not decoded.flags.owndata


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        ([[0]], TypeError, r"expected an array uint8\[\*, 8, 8\], got list"),
        (np.zeros((1, 8, 8)), TypeError, r"got float64"),
        (np.zeros((8, 8), np.uint8), ValueError, r"got the shape \[8, 8\]"),
        (np.zeros((1, 8, 9), np.uint8), ValueError, r"got the shape \[1, 8, 9\]"),
    ],
)
def test_other_arrays_are_refused(value, error, text):
    with pytest.raises(error, match=text):
        IMAGES.encode(value)


@pytest.mark.parametrize("size", [0, 3, 4, 63, 67, 69, 132])
def test_other_payloads_are_refused(size):
    payload = bytes([1, 0, 0, 0, *bytes(200)])[:size]
    with pytest.raises(ValueError, match="not an array uint8"):
        IMAGES.decode(payload)


def test_a_length_that_lies_takes_no_memory():
    with pytest.raises(ValueError, match=r"and .* takes"):
        ArraySpec(np.float64, (None, None)).decode(b"\xff" * 8)


@pytest.mark.parametrize("dtype", [object, [("a", object)], "no such type", "V0"])
def test_types_without_a_layout_are_refused(dtype):
    with pytest.raises(ConfigurationError):
        ArraySpec(dtype, (1,))


@pytest.mark.parametrize("shape", [(-1,), (1.5,), (None,) * 33])
def test_shapes_that_cannot_be_are_refused(shape):
    with pytest.raises(ConfigurationError):
        ArraySpec(np.uint8, shape)


def test_the_fingerprint_names_types_and_shapes():
    codec = NumpyCodec(IMAGES, SCORES)
    assert codec.fingerprint == "uint8[*, 8, 8] -> float32[10]"
    assert NumpyCodec(ArraySpec(">f4"), ArraySpec("<f4")).fingerprint == "float32[] -> float32[]"
    images = np.ones((3, 8, 8), np.uint8)
    np.testing.assert_array_equal(codec.decode_input(codec.encode_input(images)), images)
    scores = np.ones(10, np.float32)
    np.testing.assert_array_equal(codec.decode_output(codec.encode_output(scores)), scores)
    with pytest.raises(ConfigurationError, match="two ArraySpec"):
        NumpyCodec(np.uint8, np.uint8)


def test_serve_can_pickle_a_class_that_has_one():
    codec = pickle.loads(pickle.dumps(NumpyCodec(IMAGES, SCORES)))
    assert codec.fingerprint == NumpyCodec(IMAGES, SCORES).fingerprint


def test_a_scalar_is_an_array_without_a_shape():
    spec = ArraySpec(np.float32)
    doubled = spec.decode(spec.encode(np.array(2, np.float32))) * 2
    assert isinstance(doubled, np.generic)
    assert spec.decode(spec.encode(doubled)) == 4


def test_the_order_of_bytes_is_the_wires_own():
    spec = ArraySpec(">f4", (2,))
    assert spec.encode(np.array([1, 2], "<f4")) == spec.encode(np.array([1, 2], ">f4"))


def test_a_mask_is_not_lost_in_silence():
    with pytest.raises(TypeError, match="MaskedArray"):
        ArraySpec(np.int64, (2,)).encode(np.ma.masked_equal(np.array([1, 2]), 2))


def test_lengths_may_be_numpys():
    assert ArraySpec(np.int8, (np.int64(3), None)).shape == (3, None)


@pytest.mark.parametrize("shape", [3, "x", (1.5,), None])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(ConfigurationError, match="sequence of lengths"):
        ArraySpec(np.int8, shape)


@pytest.mark.parametrize("dtype", [("f4", (3,)), [("a", "i4"), ("a", "i4")]])
def test_element_types_that_are_none_are_refused(dtype):
    with pytest.raises(ConfigurationError):
        ArraySpec(np.dtype(dtype) if isinstance(dtype, tuple) else dtype, (2,))
