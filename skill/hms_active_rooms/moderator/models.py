"""Finds the chat model for the moderator. The default is the offline model `commands`."""

from __future__ import annotations

from langchain_core.language_models import BaseChatModel

from hms_active_rooms.errors import ConfigurationError
from hms_active_rooms.installing import extra
from hms_active_rooms.untrusted import message_of, quoted

_HINT = (
    "Check three things: the provider's key is set, its LangChain package is installed, and the name "
    "is `provider:model` (--model or HMS_MODEL). Or use the offline model `commands`."
)


def resolve_model(model: BaseChatModel | str | None, room_id: str | None) -> BaseChatModel:
    """Return the chat model.

    Args:
        model: a chat model, or its name for LangChain's `init_chat_model`. None and "commands" mean the
            offline model.
        room_id: the room of the offline model.

    Raises:
        ConfigurationError: the model cannot be made, for example without a key or without the extra
            `models`.
    """
    if isinstance(model, BaseChatModel):
        return model
    if model is None or model == "commands":
        from hms_active_rooms.moderator.offline import CommandsModel

        return CommandsModel(room_id=room_id)
    if not isinstance(model, str):
        raise ConfigurationError(
            f"model is {model!r:.100}, which is not a chat model.",
            hint="Give a chat model itself, not the result of its `with_retry` or `bind_tools`.",
        )
    with extra("models", f"model {quoted(model)}", "langchain"):
        from langchain.chat_models import init_chat_model
    try:
        found, why = init_chat_model(model), "the name is wrong"  # "" makes another object
    except Exception as error:  # noqa: BLE001 - each provider has errors of its own
        found, why = None, f'"{message_of(error).rstrip(".")}"'
        if "infer model provider" in why:  # a long list of names follows
            why = "the name has no provider that LangChain knows"
    if not isinstance(found, BaseChatModel):
        raise ConfigurationError(f"The model {quoted(model)} cannot be used: {why}.", hint=_HINT)
    return found
