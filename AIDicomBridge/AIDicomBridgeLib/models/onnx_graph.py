"""What a forward pass of an ONNX graph holds: its values' shapes from onnxruntime, their lives from the file itself."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# Fields of the messages of onnx.proto that are read here, and of the output that is written.
_GRAPH, _FUNCTIONS = 7, 25
_NODE, _INITIALIZER, _OUTPUT = 1, 5, 12
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4
_TENSOR_DIMS, _TENSOR_NAME = 1, 8
_WITH_GRAPHS_OF_THEIR_OWN = {"If", "Loop", "Scan"}
_BYTES = {"float16": 2, "bfloat16": 2, "double": 8, "int64": 8, "uint64": 8, "uint8": 1, "int8": 1, "bool": 1}


@dataclass(frozen=True)
class _Node:
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def forward_bytes(content: bytes, session: "InferenceSession", shape: tuple[int, ...]) -> int:
    """Return the most bytes that the values of a graph take at once, its input of that shape included.

    onnxruntime says the shape of what a graph puts out: a copy of the graph puts out everything, and is never run.

    Parameters
    ----------
    content, session
        The file, and as it was loaded.

    Raises
    ------
    ModelError
        The shapes are not known before a run, or the graph has others within it.
    """
    nodes, kernels = _nodes_of(content)
    if any(number == _FUNCTIONS for number, _ in _fields(content)):
        raise ModelError("the ONNX network has functions of its own")
    if any(node.operator in _WITH_GRAPHS_OF_THEIR_OWN for node in nodes):
        raise ModelError("the ONNX network has graphs within it")
    sizes = _sizes(content, session, shape, [name for node in nodes for name in node.outputs])
    last_use = {name: number for number, node in enumerate(nodes) for name in (*node.outputs, *node.inputs)}
    now = peak = math.prod(shape) * 4
    for number, node in enumerate(nodes):
        now += sum(sizes[name] for name in node.outputs)
        beside = 0
        if node.operator == "ConvTranspose":  # it writes the share of every voxel's neighbours before it adds them up
            first, weight = node.inputs[:2]
            kernel = kernels.get(weight, ())
            beside = math.prod(kernel[1:]) * sizes.get(first, 0) // max(1, kernel[0] if kernel else 1)
        peak = max(peak, now + beside)
        ended = {name for name in (*node.inputs, *node.outputs) if last_use[name] == number}
        now -= sum(sizes.get(name, 0) for name in ended)  # of weights and of the input nothing is known here
    return peak


def convolutions_of(content: bytes) -> list[tuple[int, ...]]:
    """Return the shapes of the weights of a graph's convolutions, in the order in which they run."""
    nodes, weights = _nodes_of(content)
    return [weights[name] for node in nodes if node.operator == "Conv" for name in node.inputs[1:2] if name in weights]


def _sizes(content: bytes, loaded: "InferenceSession", shape: tuple[int, ...], names: list[str]) -> dict[str, int]:
    """Return the bytes of each of these values, for an input of that shape."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_prepacking", "1")
    for dimension, extent in zip(loaded.get_inputs()[0].shape, shape, strict=True):
        if isinstance(dimension, str):
            options.add_free_dimension_override_by_name(dimension, extent)
    known = {value.name for value in loaded.get_outputs()}
    outputs = b"".join(_field(_OUTPUT, _field(1, name.encode())) for name in names if name not in known)
    # Messages of one kind, one after another, are one message with the members of both.
    session = onnxruntime.InferenceSession(
        content + _field(_GRAPH, outputs), options, providers=["CPUExecutionProvider"]
    )
    sizes = {}
    for value in session.get_outputs():
        if not all(isinstance(extent, int) for extent in value.shape):
            raise ModelError("the shapes within the ONNX network are not known before it is run")
        kind = value.type.removeprefix("tensor(").removesuffix(")")
        sizes[value.name] = math.prod(value.shape) * _BYTES.get(kind, 4)
    return sizes


def _nodes_of(content: bytes) -> tuple[list[_Node], dict[str, tuple[int, ...]]]:
    """Return the nodes of a model's graph in their order, and the shapes of its weights."""
    nodes, weights = [], {}
    for field, value in (pair for number, graph in _fields(content) if number == _GRAPH for pair in _fields(graph)):
        if field == _NODE:
            texts: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: [], _NODE_OPERATOR: []}
            for number, text in _fields(value):
                if number in texts and len(text):
                    texts[number].append(bytes(text).decode(errors="replace"))
            nodes.append(_Node("".join(texts[_NODE_OPERATOR]), *(tuple(texts[n]) for n in (_NODE_INPUT, _NODE_OUTPUT))))
        elif field == _INITIALIZER:
            parts = list(_fields(value))
            name = next((bytes(part).decode(errors="replace") for number, part in parts if number == _TENSOR_NAME), "")
            weights[name] = tuple(
                extent for number, part in parts if number == _TENSOR_DIMS for extent in _extents(part)
            )
    return nodes, weights


def _fields(message: Any) -> Iterator[tuple[int, Any]]:
    """Yield the numbers and values of the fields of a protobuf message: whole numbers, or bytes, not copied."""
    data, at = memoryview(message), 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        length = {1: 8, 5: 4}.get(kind)
        if length is None:
            length, at = _varint(data, at)
        yield key >> 3, data[at : at + length]
        at += length


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _extents(part: Any) -> list[int]:
    """Return a dimension, or several that are packed into one field."""
    if isinstance(part, int):
        return [part]
    found, at = [], 0
    while at < len(part):
        extent, at = _varint(part, at)
        found.append(extent)
    return found


def _field(number: int, content: bytes) -> bytes:
    """Return a field of a protobuf message that holds bytes."""
    length, size = len(content), b""
    while length > 127:
        size, length = size + bytes([length & 127 | 128]), length >> 7
    return bytes([number << 3 | 2]) + size + bytes([length]) + content
