"""The presets of training settings: published recipes, and measured ones."""

from __future__ import annotations

from dataclasses import replace

from .._checks import check_choice, check_kind
from .._errors import InvalidType, InvalidValue
from .._names import NORMALIZATIONS
from ._recipe import Recipe

# Chen et al. 2021, as in the published code.
_PUBLISHED = dict(
    alpha=0.2, variance_rule="vita", variance_preserving=False, balanced=False
)
_PLAIN = Recipe(network=_PUBLISHED)
# The defaults of the builders, written out so that `run.json` contains them.
_NOBN = Recipe(
    learning_rate=3e-3,
    beta_2=0.99,
    shift_multiplier=4.0,
    calibrate=True,
    reflect=True,
    network=dict(
        alpha=0.5, variance_rule="nf", variance_preserving=True, balanced=True
    ),
)

# From results/tuning/: kernels without mean and, for batch-independent networks, signs
# whose thresholds start at the mean of their input.
_CENTRED = Recipe(kernel="scaled_std_sign", learning_rate=3e-3)
_CALIBRATED = replace(_CENTRED, calibrate=True)
# From results/init_and_placement/. Other normalizations lose the advantage in longer
# runs (benchmarks/experiments.py), or start from larger latent weights anyway.
_LARGER = replace(_CENTRED, latent_scale=30.0)
# Zero padding changes the statistics of an example. From results/halving/: reflection
# padding also suits nobn and batch norm in long runs.
_MIRRORED = replace(_CALIBRATED, reflect=True)

# Changes that a kernel makes to the recipe of a normalization: from the same script, if
# the difference is larger than that between seeds.
KERNEL_OVERRIDES: dict[str, dict[str, float]] = {
    "sigmoid_sign": {"learning_rate": 1e-3},
    "bernoulli_sign": {"natural_learning_rate": 1000.0},
}

# Without weight decay, AdamW is Adam; the value is PyTorch's default.
OPTIMIZER_OVERRIDES: dict[str, dict[str, float]] = {"adamw": {"weight_decay": 0.01}}

# Recipes whose kernel quantizer needs this normalization.
REQUIRED_NORMALIZATION = dict.fromkeys(
    ("recu_cifar", "bnn_plus", "bayesian"), "batch_norm"
)

RECIPES: dict[str, Recipe] = {
    "plain": _PLAIN,
    "nobn": _NOBN,
    "batch_norm": replace(_CENTRED, reflect=True),
    "none": _MIRRORED,
    "filter_response": _MIRRORED,
    "proxy": _MIRRORED,
    "group": _MIRRORED,
    "kalman": _LARGER,
    "independent_component": _CENTRED,
    "evonorm": _CALIBRATED,
    "dynamic_tanh": _MIRRORED,
    "two_stage": replace(_NOBN, stages=2),
    "distillation": replace(_NOBN, teacher="train"),
    # Chen et al. 2021, arXiv:2104.08215, for CIFAR with labels in place of a teacher.
    # In the published code, gains have the shape (C, 1, 1, 1), so each is a unit.
    "vita_cifar": Recipe(
        epochs=256,
        batch_size=256,
        learning_rate=5e-4,
        clip_each_gain=True,
        stage_one_decay=1e-5,
        stages=2,
        network=_PUBLISHED,
    ),
    # Ma et al. 2024, arXiv:2403.03739.
    "ab_cifar": Recipe(
        epochs=256,
        batch_size=256,
        stage_one_decay=5e-6,
        clip_factor=0.001,
        clip_each_gain=True,
        reflect=True,
        stages=2,
        network={
            **_PUBLISHED,
            "alpha": 0.25,
            "estimator": "sigmoid_sign",
            "scaled_shortcut": False,
            "power_of_two": True,
        },
    ),
    # Xu et al. 2021, arXiv:2103.12369, and its code for CIFAR.
    "recu_cifar": Recipe(
        epochs=600,
        batch_size=256,
        optimizer="sgd",
        learning_rate=0.1,
        schedule="cosine",
        warmup_epochs=4,
        weight_decay=5e-4,
        clip_factor=0.0,
        kernel="recu",
        latent_initializer="he_normal",
        standardize_activations=True,
    ),
    # Darabi et al. 2018, arXiv:1812.11800.
    "bnn_plus": Recipe(
        epochs=200,
        clip_factor=0.0,
        kernel="bnn_plus",
        network={"estimator": "sign_swish"},
    ),
    # After Jang et al. 2020, arXiv:2012.08300, and Meng et al. 2020, arXiv:2002.10778.
    "bayesian": Recipe(clip_factor=0.0, kernel="bernoulli_sign"),
    # With few images, a lower clip factor limits the effect of a single batch.
    "small": replace(_NOBN, epochs=30, batch_size=32, clip_factor=0.001),
    "quick": replace(_NOBN, epochs=2),
    # Weights from another network keep the usual learning rate, at which binary weights
    # flip; the new classifier gets a higher one.
    "fine_tune": replace(
        _NOBN,
        batch_size=32,
        learning_rate=1e-2,
        backbone_multiplier=0.3,
        calibrate=False,
    ),
}


def register_recipe(
    name: str, recipe: Recipe, normalization: str | None = None
) -> Recipe:
    """Adds a recipe of your own under a name for `RunSettings`, `grid` and commands.

    Commands find it once they have imported the module that registers it: `--import
    my_parts --recipe "my_parts>fast"`. A run saves its name and all of its values.

    Arguments:
        name: Any name that no other recipe has, such as `"my_parts>fast"`.
        recipe: The settings, such as `dataclasses.replace(RECIPES["nobn"], epochs=5)`.
        normalization: The normalization that the recipe selects if no other is chosen;
            None for the usual one.

    Raises:
        TypeError, ValueError: For a recipe that is no `Recipe`, a name that is empty or
            belongs to another recipe, or an unknown normalization.

    Example:
        ```python
        from dataclasses import replace

        import larq_nobn as nobn

        recipe = replace(nobn.training.RECIPES["nobn"], epochs=5, batch_size=64)
        nobn.training.register_recipe("my_parts>short", recipe)
        settings = nobn.training.RunSettings("my_parts>short", dataset="digits")
        ```
    """
    if not isinstance(name, str) or not name.strip():
        raise InvalidType(f"name={name!r} is not a name. Give one as 'my_parts>fast'.")
    check_kind("recipe", recipe, Recipe, "a Recipe. Change one by dataclasses.replace")
    if normalization is not None and ">" not in str(normalization):
        check_choice("normalization", normalization, NORMALIZATIONS)
    known = RECIPES.get(name), REQUIRED_NORMALIZATION.get(name)
    if name in RECIPES and known != (recipe, normalization):
        raise InvalidValue(
            f"name={name!r} already belongs to another recipe. Choose another name."
        )
    if normalization is not None:
        REQUIRED_NORMALIZATION[name] = normalization
    return RECIPES.setdefault(name, recipe)
