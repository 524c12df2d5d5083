"""A spoiled copy of a model: one that answers the opposite, which no health check sees, or else nothing but NaN."""

from ci_tools.errors import DataError, DependencyUnavailable
from ci_tools.release.bundle import Bundle

INVERTED, NAN = "its answers turned round", "its answers made NaN"


def spoiled(bundle: Bundle) -> tuple[bytes, str]:
    """The bundle's ONNX file with `1 - score` in place of the score that decides, where one does; else with NaN.

    Returns:
        The file, and what was done to it.

    Raises:
        DataError: no output of the model is a floating-point number.
        DependencyUnavailable: the onnx package is not installed.
    """
    if bundle.manifest.decision:
        return _replaced(bundle, bundle.manifest.decision.output, "Sub", 1.0), INVERTED
    for output in bundle.manifest.outputs:
        if output.datatype.startswith("FP"):
            return _replaced(bundle, output.name, "Add", float("nan")), NAN
    raise DataError("has no floating-point output", where=bundle.path, rule="that is what a rehearsal spoils")


def _replaced(bundle: Bundle, name: str, operator: str, constant: float) -> bytes:
    """The model with `operator(constant, output)` in place of one output."""
    try:
        import onnx
    except ModuleNotFoundError:
        raise DependencyUnavailable("onnx is not installed", fix="pip install 'switchback-ci[train]'") from None
    model = onnx.load_from_string(bundle.content)
    graph, inner = model.graph, f"{name}_before_rehearsal"
    for node in graph.node:
        node.output[:] = [inner if one == name else one for one in node.output]
        node.input[:] = [inner if one == name else one for one in node.input]
    kind = next(output.type.tensor_type.elem_type for output in graph.output if output.name == name)
    graph.initializer.append(onnx.helper.make_tensor("constant_of_rehearsal", kind, [], [constant]))
    graph.node.append(onnx.helper.make_node(operator, ["constant_of_rehearsal", inner], [name]))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
