"""Named arrays and one vector."""

import numpy as np
import pytest

from shared.errors import ProtocolError
from shared.layout import Entry, from_vector, to_vector

ENTRIES = (Entry("a", (2, 2), 1.0, 1.0), Entry("b", (), 1.0, 1.0))


def test_arrays_come_back_in_their_shapes() -> None:
    vector = to_vector(ENTRIES, {"b": np.array(5.0), "a": np.array([[1.0, 2.0], [3.0, 4.0]])})
    assert vector.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
    arrays = from_vector(ENTRIES, vector)
    assert arrays["a"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    assert float(arrays["b"]) == 5.0


def test_a_missing_name_and_a_wrong_shape_are_named() -> None:
    with pytest.raises(ProtocolError, match=r"expected \['a', 'b'\]. Received: \['a'\]"):
        to_vector(ENTRIES, {"a": np.zeros((2, 2))})
    with pytest.raises(ProtocolError, match=r"a: expected \(2, 2\). Received: \(4,\)"):
        to_vector(ENTRIES, {"a": np.zeros(4), "b": np.array(0.0)})
    with pytest.raises(ProtocolError, match=r"expected \(5,\)"):
        from_vector(ENTRIES, np.zeros(6))
