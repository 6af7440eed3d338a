"""The network that a run starts from."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

from ..._keras import keras
from ..folder import kept_settings, open_model
from ..settings import RunSettings, weights_file


def settled(
    settings: RunSettings, output: Path, resume: bool, trust: bool = False
) -> RunSettings:
    """The settings of a run that can begin, or go on.

    Arguments:
        settings: What was asked for.
        output: The run folder.
        resume: Whether an unfinished run may be there, which needs the weights of
            `init` no more; where their file is gone, it is as the run says that it was.
        trust: Whether code from the file of `init` may run.

    Raises:
        FileNotFoundError: If a run would begin with a network that is not there.
        ValueError: If it holds back weights that nothing has been learned with.
    """
    if settings.init is None:
        if settings.backbone_multiplier != 1:
            raise ValueError(
                f"backbone_multiplier={settings.backbone_multiplier} holds back the "
                "weights of another network, but init is not given. Add --init "
                "RUN_OR_FILE (init=...), or train with backbone_multiplier=1."
            )
        return settings
    if settings.init_sha256 is not None:
        return settings
    found = kept_settings(output) if resume else None
    if found is not None and found.get("init") == settings.init:
        return replace(settings, init_sha256=found.get("init_sha256"))
    open_model(settings.init, trust=trust)  # has a sentence for what is not there
    return settings


def opened(settings: RunSettings, trust: bool = False) -> keras.Model:
    """Opens the network of `init`; no code from its file is run.

    Arguments:
        settings: Those of a run with `init`.
        trust: Whether it may be, all the same.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is no Keras model, is damaged, carries code, or is not the
            file that it was when the settings were made.
    """
    init = str(settings.init)
    model = open_model(init, trust=trust)
    found = hashlib.sha256(weights_file(init).read_bytes()).hexdigest()
    if settings.init_sha256 is not None and found != settings.init_sha256:
        raise ValueError(
            f"init={init!r} is not the file that the run began with: its SHA-256 is "
            f"{found}, and init_sha256={settings.init_sha256!r}. Restore the file, or "
            "begin another run."
        )
    return model
