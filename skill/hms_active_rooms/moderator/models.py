"""Finds the chat model for the moderator. The default is the offline model `commands`."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.installing import extra
from hms_active_rooms.untrusted import message_of, quoted

_HINT = (
    "Name a model as `provider:model` (--model or HMS_MODEL), install its LangChain "
    "package and set its provider's key. Or use `commands`: it is not a language model, and needs "
    "neither a key nor other packages."
)


def resolve_model(model: BaseChatModel | str | None, room_id: str | None) -> BaseChatModel:
    """The chat model. None and "commands" give the offline model for `room_id`. `init_chat_model`
    of LangChain finds a model by any other name. Raises ConfigurationError if the extra `models` is
    not installed, or if the model cannot be made, usually because the provider's key is missing."""
    if isinstance(model, BaseChatModel):
        return model
    if model is None or model == "commands":
        from hms_active_rooms.moderator.offline import CommandsModel

        return CommandsModel(room_id=room_id)
    if not isinstance(model, str):
        raise ConfigurationError(
            f"model is {model!r:.100}, which is no chat model.",
            hint="Give an object of a chat model's class, without `with_retry` or `bind_tools` around it.",
        )
    with extra("models", f"model {quoted(model)}", "langchain"):
        from langchain.chat_models import init_chat_model
    try:
        found, why = init_chat_model(model), "it names no model"  # for "" it returns no chat model
    except Exception as error:  # noqa: BLE001 - each provider's constructor has errors of its own
        found, why = None, f'"{message_of(error)}"'
        if "infer model provider" in why:  # a long list of names follows
            why = "it does not begin with a provider that LangChain knows"
    if not isinstance(found, BaseChatModel):
        raise ConfigurationError(f"The model {quoted(model)} cannot be used: {why}.", hint=_HINT)
    return found
