"""The training steps that are compared: an MLPResNet by its sizes, and the settings around it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Configuration:
    """An MLPResNet, its batch, and Adam's settings. Every contender trains exactly this."""

    name: str
    hidden: int = 100  # width of the residual stream; a block is half as wide inside
    batch: int = 100
    blocks: int = 3
    features: int = 784
    classes: int = 10
    dropout: float = 0.1
    norm_eps: float = 1e-5
    norm_momentum: float = 0.1
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.999
    adam_eps: float = 1e-8
    weight_decay: float = 1e-3


_ALL = (
    Configuration("default"),
    Configuration("hidden-512", hidden=512, batch=512),
    Configuration("hidden-1000", hidden=1000, batch=1000),
    Configuration("batch-1", batch=1),
    Configuration("blocks-30", blocks=30),
    Configuration("blocks-100", blocks=100),
    Configuration("blocks-1000", blocks=1000),
)
CONFIGURATIONS = {configuration.name: configuration for configuration in _ALL}
