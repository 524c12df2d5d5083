"""Nested state (optimizers, schedules, generators) as JSON plus named tensors: nothing is pickled.

Law: join(*split(x)) == x for x made of dict, list, tuple, tensors, str, int, float, bool and None.
"""

from typing import Any, TypeVar

from ci_tools.errors import CheckpointError

T = TypeVar("T")


def split(value: Any) -> tuple[Any, dict[str, Any]]:
    """A JSON tree in which each tensor is a reference, and the tensors by reference."""
    tensors: dict[str, Any] = {}

    def walk(node: Any, path: str) -> Any:
        if hasattr(node, "untyped_storage"):
            tensors[path] = node
            return {"$tensor": path}
        if isinstance(node, dict):
            return {"$dict": [[walk_key(k, path), walk(v, f"{path}/{k}")] for k, v in node.items()]}
        if isinstance(node, tuple):
            return {"$tuple": [walk(v, f"{path}/{i}") for i, v in enumerate(node)]}
        if isinstance(node, list):
            return [walk(v, f"{path}/{i}") for i, v in enumerate(node)]
        if node is None or isinstance(node, bool | int | float | str):
            return node
        raise CheckpointError(
            f"state at {path or '/'} is a {type(node).__name__}",
            rule="checkpoints hold numbers, strings, containers and tensors only",
            fix="return plain values from state_dict()",
        )

    def walk_key(key: Any, path: str) -> Any:
        if isinstance(key, int | str):
            return key
        raise CheckpointError(f"state at {path or '/'} has a key of type {type(key).__name__}", rule="str or int only")

    return walk(value, ""), tensors


def join(tree: Any, tensors: dict[str, Any]) -> Any:
    """Inverse of `split`.

    Raises:
        CheckpointError: the tree refers to a tensor that is not there.
    """
    if isinstance(tree, list):
        return [join(v, tensors) for v in tree]
    if not isinstance(tree, dict):
        return tree
    if "$tensor" in tree:
        if tree["$tensor"] not in tensors:
            raise CheckpointError(f"tensor {tree['$tensor']} is missing")
        return tensors[tree["$tensor"]]
    if "$tuple" in tree:
        return tuple(join(v, tensors) for v in tree["$tuple"])
    return {k: join(v, tensors) for k, v in tree["$dict"]}
