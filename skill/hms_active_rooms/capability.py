"""Reads the contract, `capability.yaml`, into pydantic models. Only that file has the names and hints
of the tools, and the URL paths.

A mistake in the contract must not become a running tool. So an unknown key or a contradiction is an
error. A missing hint has the strictest value.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal, Self
from urllib.parse import quote

import pydantic
import yaml
from pydantic import AliasChoices, BaseModel, Field, PrivateAttr, StrictBool, ValidationError
from pydantic.alias_generators import to_camel

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.plain import explain

_PLACEHOLDER: Final = re.compile(r"\{([^{}]*)\}")

Text = Annotated[str, Field(pattern=r"\S")]
Outputs = tuple[dict[str, Text], ...]
"""Rules that pick values from an answer. Other programs use them; this package does not."""


class _Part(
    BaseModel, extra="forbid", frozen=True, alias_generator=to_camel, validate_by_name=True
):
    """A mapping in the contract. A key is a field's name in camel case. Other keys are errors."""


class Hints(_Part):
    """What a tool does to a room. Unless `read_only`, it is by default destructive and not idempotent."""

    read_only: StrictBool = False
    destructive: StrictBool = Field(default_factory=lambda given: not given.get("read_only"))
    idempotent: StrictBool = Field(default_factory=lambda given: bool(given.get("read_only")))

    @pydantic.model_validator(mode="after")
    def _agree(self) -> Self:
        if self.read_only and self.destructive:
            raise ValueError("readOnly and destructive contradict each other")
        return self


class Parameter(_Part):
    """A parameter of an operation. `place` says whether it is in the URL's path or in the request's body."""

    name: Text
    place: Literal["path", "body"] = Field(alias="in")
    type: Literal["string", "object"] | None = None
    required: Literal[True] = True


class Operation(_Part):
    """A kind of request to the 100ms API. This package does not use `output_parameters`."""

    name: Text
    method: Literal["GET", "POST", "DELETE"]  # as in the 100ms guide "Make API calls"
    description: Text
    input_parameters: tuple[Parameter, ...] = ()
    output_raw_format: Literal["json"] = "json"
    output_parameters: Outputs = ()
    _path: str = ""

    @property
    def path(self) -> str:
        """The path below the base URI, with placeholders: "/active-rooms/{room_id}"."""
        return self._path

    @property
    def has_body(self) -> bool:
        return any(parameter.place == "body" for parameter in self.input_parameters)

    def url_path(self, **values: str) -> str:
        """Return the path, with each placeholder replaced by its id in `values`, percent-encoded."""
        return _PLACEHOLDER.sub(lambda match: quote(values[match[1]], safe=""), self.path)


class Resource(_Part):
    """The operations of one path, which has its parameters in braces, as in "/rooms/{room_id}"."""

    name: Text
    path: str = Field(pattern=r"^/[^?#%\\\s]+[^/]$")
    operations: tuple[Operation, ...]

    @pydantic.model_validator(mode="after")
    def _fill_paths(self) -> Self:
        for operation in self.operations:
            names = [p.name for p in operation.input_parameters if p.place == "path"]
            if sorted(names) != sorted(_PLACEHOLDER.findall(self.path)):
                raise ValueError(f"the path parameters of {operation.name} do not fit {self.path}")
            if operation.has_body and operation.method == "GET":
                raise ValueError(f"{operation.name} is a GET, which cannot have a body")
            operation._path = self.path
        return self


class Bearer(_Part):
    """How a request is authorized. `token` is "{{env.NAME}}": the environment variable NAME holds the
    token."""

    type: Literal["bearer"]
    token: str = Field(
        pattern=r"^\{\{env\.[A-Z][A-Z0-9_]*\}\}$", validation_alias=AliasChoices("token", "value")
    )
    placement: Literal["header"] = "header"


class Api(_Part):
    """The API that the tools call. Only https is accepted, since every request carries a token."""

    type: Literal["http"]
    namespace: Text
    base_uri: str = Field(pattern=r"^https://[^/?#@\s]+(/[^/?#\s]+)*$")
    resources: tuple[Resource, ...]
    authentication: Bearer


class Tool(_Part):
    """A tool of the contract. `call` is the operation that it uses, such as "NAMESPACE.OPERATION"."""

    name: Text
    description: Text
    hints: Hints = Hints()
    call: Text
    arguments: dict[str, Text] = Field({}, alias="with")
    output_parameters: Outputs = ()


class _Server(_Part):
    type: Literal["mcp"]
    namespace: Text
    port: int
    transport: Text
    description: Text
    tools: tuple[Tool, ...]


class _Binding(_Part):
    namespace: Literal["env"]
    keys: dict[str, Text]


class _Info(_Part):
    label: Text
    description: Text
    tags: tuple[Text, ...]
    created: Text
    modified: Text


class _Body(_Part):
    consumes: tuple[Api]
    exposes: tuple[_Server]


class Capability(_Part):
    """The whole contract file: the API that this package calls, and the tools that a model gets."""

    naftiko: Text
    info: _Info
    binds: tuple[_Binding]
    capability: _Body
    _operations: dict[str, Operation] = PrivateAttr(default_factory=dict)
    _tools: dict[str, Tool] = PrivateAttr(default_factory=dict)

    @property
    def base_uri(self) -> str:
        """The base URI of the API, with https and without a slash at the end."""
        return self.capability.consumes[0].base_uri

    @property
    def token_variable(self) -> str:
        """The name of the environment variable that holds the management token."""
        return self.capability.consumes[0].authentication.token[6:-2]

    @property
    def tools(self) -> tuple[Tool, ...]:
        return self.capability.exposes[0].tools

    def operation(self, name: str) -> Operation:
        """Return the operation with this name. Raises KeyError if there is none."""
        return self._operations[name]

    def tool(self, name: str) -> Tool:
        """Return the tool with this name. Raises KeyError if there is none."""
        return self._tools[name]

    @pydantic.model_validator(mode="after")
    def _connect(self) -> Self:
        for resource in self.capability.consumes[0].resources:
            for operation in resource.operations:
                if self._operations.setdefault(operation.name, operation) is not operation:
                    raise ValueError(f"two operations are named {operation.name}")
        for tool in self.tools:
            if self._tools.setdefault(tool.name, tool) is not tool:
                raise ValueError(f"two tools are named {tool.name}")
            namespace, _, called = tool.call.partition(".")
            if namespace != self.capability.consumes[0].namespace or called not in self._operations:
                raise ValueError(
                    f"{tool.name} calls {tool.call}, but 'consumes' has no such operation"
                )
            if tool.hints.read_only and self._operations[called].method != "GET":
                raise ValueError(f"{tool.name} is readOnly, but its operation is not a GET")
        if self.token_variable not in self.binds[0].keys.values():
            raise ValueError(f"'binds' does not have {self.token_variable}")
        return self


@cache
def capability() -> Capability:
    """Return the contract that comes with this package. The file is read only once."""
    return load(Path(__file__).with_name("capability.yaml").read_text(encoding="utf-8"))


def load(text: str) -> Capability:
    """Read a contract from YAML. Raises ConfigurationError, which says what is wrong, and where."""
    try:
        return Capability.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ConfigurationError(f"The contract is not valid YAML: {error}") from error
    except ValidationError as error:
        raise ConfigurationError(f"The contract is wrong: {explain(error, 'key')}.") from error
