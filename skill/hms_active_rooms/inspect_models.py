"""inspect-ai's way to the eval models, `hms/...`: they are in the repository, not in the wheel.

Loaded by inspect-ai alone, through its entry point.
"""

from __future__ import annotations

from inspect_ai.model import ModelAPI, modelapi

from hms_active_rooms.errors import ConfigurationError


@modelapi(name="hms")
def eval_models() -> type[ModelAPI]:
    """The class behind `hms/...`.

    Raises:
        ConfigurationError: this is not a checkout.
    """
    try:
        from evals.inspect.provider import EvalModels
    except ModuleNotFoundError as missing:
        raise ConfigurationError(
            f"The models hms/... are in the repository ({missing}).",
            hint="In a checkout: pip install -e '.[evals]'.",
        ) from None
    return EvalModels
