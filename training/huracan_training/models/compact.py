"""Nets as ONNX without what their exporters write beside them."""

from __future__ import annotations

from itertools import count

import onnx


def compact(model: bytes) -> bytes:
    """Return a net that computes the same, with numbers in place of the names of all but its inputs and outputs.

    In a net of some thousand weights, names of layers take more room than those.
    """
    net = onnx.load_from_string(model)
    graph = net.graph
    names = {"": ""} | {end.name: end.name for end in (*graph.input, *graph.output)}  # a missing input has no name
    numbers = count()

    def short(name: str) -> str:
        if name not in names:
            names[name] = f"{next(numbers):x}"
        return names[name]

    for constant in graph.initializer:
        constant.name = short(constant.name)
    for node in graph.node:
        node.name = f"{next(numbers):x}"
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
        node.ClearField("doc_string")
    graph.name = "net"
    graph.ClearField("value_info")
    graph.ClearField("doc_string")
    net.ClearField("metadata_props")
    onnx.checker.check_model(net)
    return net.SerializeToString(deterministic=True)
