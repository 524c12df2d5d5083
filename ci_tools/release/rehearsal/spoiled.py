"""A model that answers the opposite, quickly and without an error: what no health check sees."""

from ci_tools.errors import DataError, DependencyUnavailable
from ci_tools.release.bundle import Bundle


def inverted(bundle: Bundle) -> bytes:
    """The bundle's ONNX file with `1 - score` in place of the score.

    Raises:
        DataError: the model says not which output decides.
        DependencyUnavailable: the onnx package is not installed.
    """
    try:
        import onnx
    except ModuleNotFoundError:
        raise DependencyUnavailable("onnx is not installed", fix="pip install 'switchback-ci[train]'") from None
    decision = bundle.manifest.decision
    if decision is None:
        raise DataError("does not say which output decides", where=bundle.path, fix="pack it with --decision")
    model = onnx.load_from_string(bundle.content)
    graph, score = model.graph, decision.output
    inner = f"{score}_before_inversion"
    for node in graph.node:
        node.output[:] = [inner if name == score else name for name in node.output]
        node.input[:] = [inner if name == score else name for name in node.input]
    kind = next(output.type.tensor_type.elem_type for output in graph.output if output.name == score)
    graph.initializer.append(onnx.helper.make_tensor("one_of_inversion", kind, [], [1]))
    graph.node.append(onnx.helper.make_node("Sub", ["one_of_inversion", inner], [score]))
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content
