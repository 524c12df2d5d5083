"""The Python sources of a repository, as far as `switchback init` has to understand them. Nothing is imported."""

import ast
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOTS = ("", "src")
"""Folders from which a repository's own packages are imported."""


_SAVING = ("save", "save_file", "export")
"""Functions of torch, safetensors and torch.onnx that write weights or a model."""
_PLACES = ("f", "filename")
"""What they call the path."""


@dataclass(frozen=True, kw_only=True)
class Save:
    """A call that writes weights or a model, always to the same path."""

    script: PurePosixPath
    line: int
    """From 1."""
    call: str
    """The function's name as it is written there."""
    path: str


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file."""

    path: PurePosixPath
    """From the repository's root."""
    tree: ast.Module

    @property
    def imports(self) -> set[str]:
        """Dotted names of all modules that it imports, and of what it takes from them."""
        found = set()
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                found |= {name.name for name in node.names}
            elif isinstance(node, ast.ImportFrom):
                base = ".".join(filter(None, [self._package(node.level), node.module]))
                found |= {base, *(f"{base}.{name.name}" for name in node.names)}
        return found

    @property
    def has_loop(self) -> bool:
        """Whether it goes backward through a network."""
        return any(_called(node) == "backward" for node in ast.walk(self.tree))

    @property
    def starts(self) -> bool:
        """Whether something happens where it is run as a script."""
        guards = (ast.unparse(node.test) for node in self.tree.body if isinstance(node, ast.If))
        return any("__name__" in guard for guard in guards) or any(
            _called(inner) == "backward"
            for node in self.tree.body
            if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
            for inner in ast.walk(node)
        )

    @property
    def imports_by_place(self) -> bool:
        """Whether it imports by place within its package, so that it runs as a module only."""
        return any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(self.tree))

    def mentions(self, name: str) -> bool:
        """Whether a class or function of that name is called, or derived from."""
        return any(name in (getattr(node, "id", ""), getattr(node, "attr", "")) for node in ast.walk(self.tree))

    def options(self) -> Iterator[tuple[str, object]]:
        """Flag and literal default, None where there is none, of each option of its command line, as argparse and
        click declare them.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and _called(node) in ("add_argument", "option"):
                names = [one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)]
                flags = [name for name in names if name.startswith("--")]
                defaults = [word.value for word in node.keywords if word.arg == "default"]
                if flags:
                    yield flags[0].partition("/")[0], _literal(defaults[0]) if defaults else None

    def saves(self) -> Iterator[Save]:
        """Each call that writes weights or a model to a path that it names itself."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and _called(node) in _SAVING:
                call = ast.unparse(node.func)
                places = [*node.args, *(word.value for word in node.keywords if word.arg in _PLACES)]
                path = next(filter(None, map(_path, places)), "")
                if path and (_called(node) != "save" or call == "torch.save"):  # others save something else
                    yield Save(script=self.path, line=node.lineno, call=call, path=path)

    def _package(self, level: int) -> str:
        parts = [*self.path.parent.parts][: len(self.path.parent.parts) - level + 1] if level else []
        return ".".join(parts)


def read(root: Path, names: Iterable[str]) -> dict[PurePosixPath, Source]:
    """The files among `names` that are Python; what cannot be parsed is none."""
    found = {}
    for name in names:
        path = PurePosixPath(name)
        if path.suffix == ".py":
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of somebody else's strings
                    tree = ast.parse((root / path).read_bytes())
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):  # the last: nested too deep
                continue
            found[path] = Source(path=path, tree=tree)
    return found


def reached(start: Source, among: Mapping[PurePosixPath, Source]) -> list[Source]:
    """`start`, then the sources that it imports, directly or not, in the order of their paths."""
    found, todo = {start.path: start}, [start]
    while todo:
        source = todo.pop()
        # What a script imports is looked for beside it, too.
        roots = [*ROOTS, str(start.path.parent)]
        # Importing a.b runs a, too.
        names = {
            "/".join(parts[: i + 1]) for parts in (n.split(".") for n in source.imports) for i in range(len(parts))
        }
        for at in names:
            for place in (PurePosixPath(root, f"{at}{end}") for root in roots for end in (".py", "/__init__.py")):
                if place in among and place not in found:
                    found[place] = among[place]
                    todo.append(among[place])
    others = sorted(path for path in found if path != start.path)
    return [start, *(found[path] for path in others)]


def _called(node: ast.AST) -> str:
    """Name of the method or function, where the node is a call."""
    function = node.func if isinstance(node, ast.Call) else None
    return (
        function.attr if isinstance(function, ast.Attribute) else function.id if isinstance(function, ast.Name) else ""
    )


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _path(node: ast.expr) -> str:
    """The path that literals say, as a text, in Path(…), or joined by `/`; empty where it depends on anything."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Call(args=[inner], keywords=[]) if _called(node) == "Path":
            return _path(inner)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            parts = [_path(left), _path(right)]
            return "/".join(parts) if all(parts) else ""
    return ""
