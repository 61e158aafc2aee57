"""The contract as values: what `capability.yaml` consumes and exposes, checked when it is read.

An unclear contract must not become a running tool, so a file that contradicts
itself is refused as a whole, with the place and the reason: a missing hint is the
strictest hint, an unknown key is an error, a path is filled completely or not at all.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast
from urllib.parse import quote, urlsplit

import yaml

from hms_active_rooms.errors import ConfigurationError, InvalidCall

Method = Literal["GET", "POST", "DELETE"]
"""The HTTP methods 100ms uses (its guide "Make API calls")."""

_METHODS: Final = ("GET", "POST", "DELETE")
_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")
_IDENTIFIER: Final = re.compile(r"[a-z][a-z0-9_]*")
_VARIABLE: Final = re.compile(r"\{\{env\.([A-Z][A-Z0-9_]*)\}\}")


@dataclass(frozen=True, slots=True)
class Hints:
    """What a tool does to a room. The defaults are the strictest: a tool that says nothing."""

    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """One HTTP operation of the 100ms API.

    Attributes:
        name: as in the contract, for example "listpeers".
        method: HTTP method.
        path: below the base URI, with placeholders, for example "/active-rooms/{room_id}".
        description: one line.
        has_body: whether it takes a JSON body.
    """

    name: str
    method: Method
    path: str
    description: str
    has_body: bool = False

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Names in the path, in their order."""
        return tuple(_PLACEHOLDER.findall(self.path))

    def url_path(self, **values: str) -> str:
        """The path with every placeholder filled by its value, percent-encoded.

        Raises:
            InvalidCall: a placeholder without a value, a value without a placeholder,
                or a value that would change the path ("", "." or "..").
        """
        needed = self.placeholders
        if missing := [name for name in needed if name not in values]:
            raise InvalidCall(f"{self.name} needs {', '.join(missing)}.")
        if unknown := sorted(set(values) - set(needed)):
            raise InvalidCall(f"{self.name} has no {', '.join(unknown)} in its path.")
        if unusable := [name for name, value in values.items() if value in _NO_SEGMENT]:
            raise InvalidCall(f"{self.name} cannot use this value as {', '.join(unusable)}.")
        return _PLACEHOLDER.sub(lambda match: quote(values[match[1]], safe=""), self.path)


_NO_SEGMENT: Final = ("", ".", "..")


@dataclass(frozen=True, slots=True)
class Tool:
    """One exposed tool: its name and description for the model, its hints, what it calls."""

    name: str
    description: str
    hints: Hints
    operation: Operation


@dataclass(frozen=True, slots=True)
class Capability:
    """The whole contract.

    Attributes:
        label: its title.
        base_uri: https, without a slash at the end.
        token_variable: the environment variable that holds the management token.
        operations: consumed, in the file's order.
        tools: exposed, in the file's order.
    """

    label: str
    base_uri: str
    token_variable: str
    operations: tuple[Operation, ...]
    tools: tuple[Tool, ...]

    def operation(self, name: str) -> Operation:
        """The operation of that name, or InvalidCall."""
        for operation in self.operations:
            if operation.name == name:
                return operation
        raise InvalidCall(f"There is no operation {ascii(name)[:80]}.")

    def tool(self, name: str) -> Tool:
        """The tool of that name, or InvalidCall."""
        for tool in self.tools:
            if tool.name == name:
                return tool
        raise InvalidCall(f"There is no tool {ascii(name)[:80]}.")


@cache
def capability() -> Capability:
    """The contract that comes with this package, read once."""
    return load(Path(__file__).with_name("capability.yaml"))


def load(source: Path | str) -> Capability:
    """Read a contract from a file (a `Path`) or from YAML text (a `str`).

    Raises:
        ConfigurationError: it cannot be read, or it is inconsistent; the text names
            the place, for example "capability.exposes[0].tools[2].call".
    """
    try:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        document = yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The contract cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"The contract is not valid YAML: {error}") from error
    return _capability(_Node(document, ""))


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader keeps the last of two equal keys; one of two hints would vanish silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(getattr(key_node, "value", key_node))
            if key in seen:
                problem = f"the key {key!r} stands here twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


@dataclass(frozen=True, slots=True)
class _Node:
    """A value in the document together with its place."""

    value: object
    place: str

    def refuse(self, reason: str) -> ConfigurationError:
        return ConfigurationError(f"The contract is wrong at {self.place or 'its top'}: {reason}.")

    def fields(self, required: str, optional: str = "") -> dict[str, _Node]:
        """The keys of a mapping; every key must be known and every required one be there."""
        if not isinstance(self.value, dict):
            raise self.refuse(f"a mapping is needed, not {_kind(self.value)}")
        needed, allowed = required.split(), (required + " " + optional).split()
        for key in self.value:
            if key not in allowed:
                raise self.refuse(f"unknown key {key!r}")
        for key in needed:
            if key not in self.value:
                raise self.refuse(f"{key!r} is missing")
        prefix = f"{self.place}." if self.place else ""
        return {key: _Node(value, f"{prefix}{key}") for key, value in self.value.items()}

    def items(self) -> list[_Node]:
        if not isinstance(self.value, list) or not self.value:
            raise self.refuse(f"a list with entries is needed, not {_kind(self.value)}")
        return [_Node(value, f"{self.place}[{i}]") for i, value in enumerate(self.value)]

    def text(self) -> str:
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.refuse(f"a text is needed, not {_kind(self.value)}")
        return self.value

    def flag(self) -> bool:
        if not isinstance(self.value, bool):
            raise self.refuse(f"true or false is needed, not {_kind(self.value)}")
        return self.value

    def exactly(self, *allowed: object) -> object:
        if self.value not in allowed:
            raise self.refuse(f"{self.value!r} is not one of {', '.join(map(str, allowed))}")
        return self.value


def _kind(value: object) -> str:
    kinds = {
        dict: "a mapping",
        list: "a list",
        str: "a text",
        bool: "a flag",
        type(None): "nothing",
    }
    return kinds.get(type(value), f"a {type(value).__name__}") if value != [] else "an empty list"


def _capability(top: _Node) -> Capability:
    keys = top.fields("naftiko info capability", "binds")
    keys["naftiko"].text()
    info = keys["info"].fields("label description", "tags created modified")
    body = keys["capability"].fields("consumes exposes")
    consumed = body["consumes"].items()
    if len(consumed) != 1:
        raise body["consumes"].refuse("exactly one API is supported")
    variables = _variables(keys["binds"]) if "binds" in keys else set()

    api = consumed[0].fields("type namespace baseUri resources authentication")
    api["type"].exactly("http")
    namespace = api["namespace"].text()
    operations = _unique(
        [op for resource in api["resources"].items() for op in _operations(resource)]
    )
    callable_names = {f"{namespace}.{operation.name}": operation for operation in operations}
    tools = _unique(
        [tool for server in body["exposes"].items() for tool in _tools(server, callable_names)]
    )
    return Capability(
        label=info["label"].text(),
        base_uri=_base_uri(api["baseUri"]),
        token_variable=_token_variable(api["authentication"], variables),
        operations=operations,
        tools=tools,
    )


_Named = TypeVar("_Named", Operation, Tool)


def _unique(found: list[tuple[_Node, _Named]]) -> tuple[_Named, ...]:
    places: dict[str, str] = {}
    for node, item in found:
        if item.name in places:
            raise node.refuse(f"the name {item.name!r} is already used at {places[item.name]}")
        places[item.name] = node.place
    return tuple(item for _, item in found)


def _variables(binds: _Node) -> set[str]:
    names: set[str] = set()
    for bind in binds.items():
        keys = bind.fields("namespace keys")
        keys["namespace"].exactly("env")
        if not isinstance(keys["keys"].value, dict):
            raise keys["keys"].refuse("a mapping is needed")
        for name, variable in keys["keys"].value.items():
            names.add(_Node(variable, f"{keys['keys'].place}.{name}").text())
    return names


def _base_uri(node: _Node) -> str:
    uri = node.text()
    parts = urlsplit(uri)
    if parts.scheme != "https" or not parts.hostname:
        raise node.refuse("an https address is needed, since every request carries a token")
    if parts.query or parts.fragment or parts.username or parts.password or uri.endswith("/"):
        raise node.refuse("no user, query, fragment or slash at the end is allowed")
    return uri


def _token_variable(node: _Node, variables: set[str]) -> str:
    keys = node.fields("type value placement")
    keys["type"].exactly("bearer")
    keys["placement"].exactly("header")
    match = _VARIABLE.fullmatch(keys["value"].text())
    if not match:
        raise keys["value"].refuse("a reference like {{env.NAME}} is needed")
    if match[1] not in variables:
        raise keys["value"].refuse(f"{match[1]} is not bound under 'binds'")
    return match[1]


def _operations(resource: _Node) -> list[tuple[_Node, Operation]]:
    keys = resource.fields("name path operations", "description")
    path = keys["path"].text()
    if not path.startswith("/") or path.endswith("/") or set(path) & set("?#%\\ ") or "//" in path:
        raise keys["path"].refuse("a path like /a/{b} is needed")
    names = _PLACEHOLDER.findall(path)
    if set(_PLACEHOLDER.sub("", path)) & set("{}") or len(set(names)) != len(names):
        raise keys["path"].refuse("its placeholders are not well formed or not unique")
    return [_operation(node, keys["path"]) for node in keys["operations"].items()]


def _operation(node: _Node, path: _Node) -> tuple[_Node, Operation]:
    keys = node.fields("name method description", "inputParameters")
    method = cast("Method", keys["method"].exactly(*_METHODS))
    in_path: set[str] = set()
    body = False
    for parameter in keys["inputParameters"].items() if "inputParameters" in keys else []:
        name, place = _parameter(parameter)
        if name in in_path or (place == "body" and body):
            raise parameter.refuse(f"{name!r} stands here twice")
        if place == "path":
            in_path.add(name)
        body = body or place == "body"
    placeholders = set(_PLACEHOLDER.findall(path.text()))
    if missing := sorted(placeholders - in_path):
        raise node.refuse(f"{path.text()} needs an input parameter {', '.join(missing)}")
    if unused := sorted(in_path - placeholders):
        raise node.refuse(f"{path.text()} has no place for {', '.join(unused)}")
    if body and method == "GET":
        raise node.refuse("a GET has no body")
    name, description = keys["name"].text(), keys["description"].text()
    return node, Operation(name, method, path.text(), description, body)


def _parameter(node: _Node) -> tuple[str, str]:
    keys = node.fields("name in type required", "description")
    name = keys["name"].text()
    if not _IDENTIFIER.fullmatch(name):
        raise keys["name"].refuse("a name like room_id is needed")
    place = str(keys["in"].exactly("path", "body"))
    keys["type"].exactly("string" if place == "path" else "object")
    if not keys["required"].flag():
        raise keys["required"].refuse("a parameter of a path or a body is always required")
    return name, place


def _tools(server: _Node, operations: dict[str, Operation]) -> list[tuple[_Node, Tool]]:
    keys = server.fields("type namespace tools", "port transport description")
    keys["type"].exactly("mcp")
    return [_tool(node, operations) for node in keys["tools"].items()]


def _tool(node: _Node, operations: dict[str, Operation]) -> tuple[_Node, Tool]:
    keys = node.fields("name description call", "hints")
    called = keys["call"].text()
    if called not in operations:
        raise keys["call"].refuse(f"{called!r} is not an operation that is consumed")
    hints = _hints(keys["hints"]) if "hints" in keys else Hints()
    if hints.read_only and operations[called].method != "GET":
        raise keys["hints"].refuse(f"readOnly, but {called} is a {operations[called].method}")
    return node, Tool(keys["name"].text(), keys["description"].text(), hints, operations[called])


def _hints(node: _Node) -> Hints:
    keys = node.fields("", "readOnly destructive idempotent")
    given = {key: value.flag() for key, value in keys.items()}
    read_only = given.get("readOnly", False)
    # What a file leaves out is read the strict way, except where it cannot be meant.
    hints = Hints(
        read_only, given.get("destructive", not read_only), given.get("idempotent", read_only)
    )
    if hints.read_only and hints.destructive:
        raise node.refuse("readOnly and destructive contradict each other")
    return hints
