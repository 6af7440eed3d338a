"""An optimizer around an optimizer, in both of Keras' optimizer families."""

from __future__ import annotations

from typing import Any


class OptimizerWrapper:
    """Hands every attribute that a subclass does not define to `inner_optimizer`.

    State, hyperparameters, checkpoint tracking and slots stay with the inner optimizer,
    so that files and checkpoints are those of the inner optimizer alone, and a callback
    that sets `learning_rate` reaches it. Keras' optimizer classes come in as second
    base only for `isinstance` and for `minimize`, which calls back into the wrapper.
    """

    inner_optimizer: Any
    _own: frozenset[str]

    def __init_subclass__(cls) -> None:
        wrappers = [base for base in cls.__mro__ if issubclass(base, OptimizerWrapper)]
        own = {"minimize", "get_updates"}
        for base in wrappers:
            own |= set(vars(base)) | set(vars(base).get("__annotations__", ()))
        cls._own = frozenset(own)

    def __getattribute__(self, name: str) -> Any:
        own = object.__getattribute__
        if name.startswith("__") or name in own(self, "_own"):
            return own(self, name)
        return getattr(own(self, "inner_optimizer"), name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._own:
            object.__setattr__(self, name, value)
        else:
            setattr(self.inner_optimizer, name, value)

    def __dir__(self) -> list[str]:
        # Keras walks these names to find state to save. The inner optimizer's is saved
        # as the wrapper's own; listing it would save it a second time.
        return sorted(
            (set(dir(self.inner_optimizer)) | self._own) - {"inner_optimizer"}
        )
