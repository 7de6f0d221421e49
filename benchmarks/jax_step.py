"""The training step in JAX: the whole step under one jit, its state donated.

The variants are two of JAX's random generators: the default one, and the fastest on a CPU.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.configurations import Configuration
from benchmarks.contender import Step
from benchmarks.problem import batches, initial_parameters

Arrays = dict[str, Any]


def make_step(configuration: Configuration, variant: str) -> Step:
    """The step; `variant` names the random generator.

    Parameters, moments and running statistics are updated in their own memory.
    """
    data = [(jax.device_put(x), jax.device_put(y)) for x, y in batches(configuration)]
    state = make_state(configuration, variant)
    train_step = jax.jit(partial(_train_step, configuration), donate_argnums=0)

    def run(number: int) -> Any:
        nonlocal state
        state, loss = train_step(state, *data[number % len(data)])
        return loss

    def memory() -> dict[str, int]:
        analysis = train_step.lower(state, *data[0]).compile().memory_analysis()
        return {
            "temporaries": analysis.temp_size_in_bytes,
            "new results": analysis.output_size_in_bytes - analysis.alias_size_in_bytes,
        }

    return Step(
        run=run,
        wait=lambda loss: jax.block_until_ready((state, loss)),
        loss=float,
        facts=lambda: {
            "version": f"JAX {jax.__version__}",
            "BLAS": f"XLA of jaxlib {jax.lib.__version__}, which does not tell",
            "random numbers": variant,
        },
        memory=memory,
    )


def make_state(configuration: Configuration, generator: str) -> dict[str, Any]:
    """All that changes from step to step."""
    parameters = {k: jnp.asarray(v) for k, v in initial_parameters(configuration).items()}
    norms = {k: v for k, v in parameters.items() if ".norm" in k}
    return {
        "parameters": parameters,
        "u": jax.tree.map(jnp.zeros_like, parameters),
        "v": jax.tree.map(jnp.zeros_like, parameters),
        # The keys of a layer end in weight and bias: its mean and its variance stand there.
        "running": {k: jnp.full_like(v, k.endswith("bias")) for k, v in norms.items()},
        "steps": jnp.zeros((), jnp.int32),
        "key": jax.random.key(0, impl=generator),
    }


def _train_step(configuration: Configuration, state: Any, images: Any, labels: Any) -> Any:
    key, dropout_key = jax.random.split(state["key"])
    evaluate = jax.value_and_grad(partial(_loss, configuration), has_aux=True)
    (loss, observed), grads = evaluate(state["parameters"], images, labels, dropout_key)
    momentum = configuration.norm_momentum
    running = jax.tree.map(
        lambda old, new: (1 - momentum) * old + momentum * new, state["running"], observed
    )
    steps = state["steps"] + 1
    parameters, u, v = _adam(configuration, state, grads, steps)
    new = {"parameters": parameters, "u": u, "v": v, "running": running, "steps": steps, "key": key}
    return new, loss


def _loss(configuration: Configuration, p: Arrays, images: Any, labels: Any, key: Any) -> Any:
    """The mean cross-entropy, and the batch's means and variances."""
    observed: Arrays = {}

    def linear(name: str, x: Any) -> Any:
        return x @ p[f"{name}.weight"] + p[f"{name}.bias"]

    def norm(name: str, x: Any) -> Any:
        mean, var = x.mean(0), x.var(0)
        observed[f"{name}.weight"], observed[f"{name}.bias"] = mean, var
        normal = (x - mean) * jax.lax.rsqrt(var + configuration.norm_eps)
        return normal * p[f"{name}.weight"] + p[f"{name}.bias"]

    h = jax.nn.relu(linear("stem", images))
    keep = 1 - configuration.dropout
    for i, block_key in enumerate(jax.random.split(key, max(configuration.blocks, 1))):
        if i == configuration.blocks:
            break
        name = f"blocks.{i}"
        inner = jax.nn.relu(norm(f"{name}.norm1", linear(f"{name}.linear1", h)))
        if configuration.dropout:
            mask = jax.random.bernoulli(block_key, keep, inner.shape)
            inner = jnp.where(mask, inner / keep, 0)
        h = jax.nn.relu(h + norm(f"{name}.norm2", linear(f"{name}.linear2", inner)))
    scores = jax.nn.log_softmax(linear("classifier", h))
    return -jnp.take_along_axis(scores, labels[:, None], 1).mean(), observed


def _adam(configuration: Configuration, state: Any, grads: Arrays, steps: Any) -> Any:
    """The new parameters and moments."""
    c = configuration
    u_debias, v_debias = 1 - c.beta1**steps, 1 - c.beta2**steps
    grads = jax.tree.map(lambda g, p: g + c.weight_decay * p, grads, state["parameters"])
    u = jax.tree.map(lambda u, g: c.beta1 * u + (1 - c.beta1) * g, state["u"], grads)
    v = jax.tree.map(lambda v, g: c.beta2 * v + (1 - c.beta2) * g * g, state["v"], grads)
    parameters = jax.tree.map(
        lambda p, u, v: p - c.lr * (u / u_debias) / (jnp.sqrt(v / v_debias) + c.adam_eps),
        state["parameters"],
        u,
        v,
    )
    return parameters, u, v
