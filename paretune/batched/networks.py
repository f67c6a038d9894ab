"""Dense networks of equal shape as one program: forward pass, gradients and update written out, without autograd.

Parameters are stacked, (K, out, in) and (K, out), and the networks' own are views of them. Activations lie samples last,
(K, width, n): softmax over the second axis and sums over the last one are then made of long rows. Networks whose images come in
the same order share each batch, and the first layer of all of them is one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from paretune.batched.onednn import products_of
from paretune.core.step import bare_step

aten = torch.ops.aten
SELU = (1.6732632423543772, 1.0507009873554805)  # alpha, scale
Forward = Callable[[torch.Tensor, torch.Tensor], Any]  # from z into a
Backward = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], Any]  # a gradient by a in place into one by z, given z and a

# The same kernels that autograd calls.
FORMS: dict[type[nn.Module], tuple[Forward, Backward]] = {
    nn.Sigmoid: (lambda z, a: torch.sigmoid(z, out=a), lambda d, z, a: aten.sigmoid_backward.grad_input(d, a, grad_input=d)),
    nn.Tanh: (lambda z, a: torch.tanh(z, out=a), lambda d, z, a: aten.tanh_backward.grad_input(d, a, grad_input=d)),
    nn.ReLU: (lambda z, a: torch.clamp_min(z, 0, out=a), lambda d, z, a: aten.threshold_backward.grad_input(d, a, 0, grad_input=d)),
    nn.LeakyReLU: (
        lambda z, a: aten.leaky_relu.out(z, 0.01, out=a),
        lambda d, z, a: aten.leaky_relu_backward.grad_input(d, z, 0.01, False, grad_input=d),
    ),
    nn.ELU: (
        lambda z, a: aten.elu.out(z, out=a),
        lambda d, z, a: aten.elu_backward.grad_input(d, 1.0, 1.0, 1.0, False, z, grad_input=d),
    ),
    nn.SELU: (
        lambda z, a: aten.elu.out(z, *SELU, 1.0, out=a),
        lambda d, z, a: aten.elu_backward.grad_input(d, *SELU, 1.0, False, z, grad_input=d),
    ),
    nn.GELU: (lambda z, a: aten.gelu.out(z, out=a), lambda d, z, a: aten.gelu_backward.grad_input(d, z, grad_input=d)),
    nn.SiLU: (lambda z, a: aten.silu.out(z, out=a), lambda d, z, a: aten.silu_backward.grad_input(d, z, grad_input=d)),
    nn.Mish: (lambda z, a: aten.mish.out(z, out=a), lambda d, z, a: d.copy_(aten.mish_backward(d, z))),
    nn.Identity: (lambda z, a: None, lambda d, z, a: None),
    nn.Softplus: (
        lambda z, a: aten.softplus.out(z, out=a),
        lambda d, z, a: aten.softplus_backward.grad_input(d, z, 1, 20, grad_input=d),
    ),
}
BY_RESULT = (nn.Sigmoid, nn.Tanh, nn.ReLU, nn.Identity)  # z is not needed for the gradient: a lies where z lay


@dataclass
class Described:
    """One dense layer of one network: the module, the kind of its activation (None: none), the dropout rate behind it."""

    linear: nn.Linear
    kind: type[nn.Module] | None = None
    rate: float = 0.0


def described(net: nn.Module) -> list[Described] | None:
    """Return the layers of a network that is a plain chain of dense ones, wholly trained; None of any other."""
    found: list[Described] = []
    for part in net.modules():
        kind = type(part)
        if _hooked(part):
            return None
        if kind in (nn.Sequential, nn.Flatten, nn.Unflatten) or (kind is nn.Identity and not found):
            continue
        if isinstance(part, nn.Linear) and _plain(part) and part.bias is not None:
            found.append(Described(part))
        elif not found:
            return None  # something that changes the images
        elif kind in FORMS and found[-1].kind is None and found[-1].rate == 0:
            found[-1].kind = kind
        elif isinstance(part, nn.Dropout) and _plain(part) and found[-1].rate == 0:
            if part.p > 0 and found[-1].kind is None:
                return None  # before the activation
            found[-1].rate = part.p
        else:
            return None
    if not found or found[-1].rate > 0 or not all(parameter.requires_grad for parameter in net.parameters()):
        return None
    return found


def _plain(part: nn.Module) -> bool:
    """Whether a layer is torch's own, or ours: a subclass may do something else, and so may one that is parametrized."""
    return type(part).__module__.startswith(("torch.nn.modules.", "paretune."))


def _hooked(part: nn.Module) -> bool:
    """Whether something is called beside a layer's forward; torch tells it by private attributes alone (a test names them)."""
    return any(getattr(part, f"_{kind}_hooks") for kind in ("forward", "forward_pre", "backward", "backward_pre"))


class Stack:
    """A dense layer of all K networks: `weight` (K, out, in), `bias` (K, out), their gradients, and what follows."""

    def __init__(self, layers: Sequence[Described]) -> None:
        self.linears = [layer.linear for layer in layers]
        self.kind, self.rates = layers[0].kind, [layer.rate for layer in layers]
        self.n_inputs, self.width = self.linears[0].in_features, self.linears[0].out_features
        with torch.no_grad():
            self.weight = torch.stack([linear.weight.detach() for linear in self.linears])
            self.bias = torch.stack([linear.bias.detach() for linear in self.linears])
        self.weight_gradient, self.bias_gradient = torch.zeros_like(self.weight), torch.zeros_like(self.bias)
        for place, linear in enumerate(self.linears):
            linear.weight.data, linear.weight.grad = self.weight[place], self.weight_gradient[place]
            linear.bias.data, linear.bias.grad = self.bias[place], self.bias_gradient[place]

    def factors(self, *, flat: bool) -> tuple[torch.Tensor, torch.Tensor]:
        """Return weight and bias as products take them: (K * out, in) and (K * out, 1), or (K, out, in) and (K, out, 1)."""
        return (self.weight.view(-1, self.n_inputs), self.bias.view(-1, 1)) if flat else (self.weight, self.bias.unsqueeze(2))

    def release(self) -> None:
        """Give each network parameters of its own again."""
        for linear in self.linears:
            for parameter in (linear.weight, linear.bias):
                parameter.data, parameter.grad = parameter.data.clone(), None


class Layer:
    """The views and buffers of a stack for batches of n images.

    Args:
        flat: the K networks are one matrix of K * out rows, as they share their inputs, or are one.
        before: what the inputs are: images (n, in), or (K, n, in) where they are not shared, or another layer's output.
    """

    def __init__(self, stack: Stack, n: int, *, flat: bool, images: torch.Tensor | None, before: Layer | None) -> None:
        k, width = len(stack.linears), stack.width
        self.flat = flat
        rows = k * width
        self.weight, self.bias = stack.factors(flat=flat)
        self.weight_gradient = stack.weight_gradient.view(rows, -1) if flat else stack.weight_gradient
        self.bias_gradient = stack.bias_gradient.view(rows)
        self.add_product, self.product = products_of(stack.weight, n, flat=flat)
        new = stack.weight.new_empty
        self.z = new(k, width, n)
        self.a = self.z if stack.kind is None or stack.kind in BY_RESULT else new(k, width, n)
        self.activate: Forward | None
        self.backward: Backward | None
        self.activate, self.backward = (None, None) if stack.kind is None else FORMS[stack.kind]
        self.d = new(k, width, n)
        self.mask = None
        if any(stack.rates):
            self.mask = stack.weight.new_ones(k, width, n)  # of a network that drops nothing it stays so
            self.dropped = new(k, width, n)
        self.output = self.a if self.mask is None else self.dropped  # (K, width, n)
        self.z_seen, self.d_seen, self.d_rows = self._seen(self.z), self._seen(self.d), self.d.view(rows, n)
        if images is not None:
            self.inputs, self.samples = images.transpose(-1, -2), images
        else:
            assert before is not None
            self.inputs = before.output.view(-1, n) if flat else before.output
            self.samples = self.inputs.transpose(-1, -2)
            self.d_before = before.d.view(-1, n) if flat else before.d
        self.weight_turned = self.weight.transpose(-1, -2)

    def _seen(self, tensor: torch.Tensor) -> torch.Tensor:
        """Return a tensor (K, width, n) as the products of this layer take it."""
        return tensor.view(-1, tensor.shape[-1]) if self.flat else tensor


class Room:
    """All layers' buffers for batches of n images.

    Args:
        shared: whether the K networks take the same images.
    """

    def __init__(self, stacks: Sequence[Stack], n: int, *, shared: bool) -> None:
        self.n, self.k = n, len(stacks[0].linears)
        new = stacks[0].weight.new_empty
        self.rows = new(n if shared else self.k * n, stacks[0].n_inputs)
        self.ones = stacks[0].weight.new_ones(n)
        images = self.rows if shared or self.k == 1 else self.rows.view(self.k, n, -1)
        self.layers: list[Layer] = []
        for stack in stacks:
            before = self.layers[-1] if self.layers else None
            flat = self.k == 1 or (shared and before is None)
            self.layers.append(Layer(stack, n, flat=flat, images=images if before is None else None, before=before))

    def forward(self, outputs: torch.Tensor | None) -> None:
        """Fill the layers from the images; the last one's z goes into `outputs` if given, as that layer takes it."""
        *inner, end = self.layers
        for layer in inner:
            layer.add_product(layer.bias, layer.weight, layer.inputs, out=layer.z_seen)
            if layer.activate is not None:
                layer.activate(layer.z, layer.a)
            if layer.mask is not None:
                torch.mul(layer.a, layer.mask, out=layer.dropped)
        end.add_product(end.bias, end.weight, end.inputs, out=end.z_seen if outputs is None else outputs)
        if end.activate is not None:
            end.activate(end.z, end.a)

    def backward(self) -> None:
        """Fill the gradients from the last layer's `d`, which holds the loss's by its z."""
        layers = self.layers
        for place in range(len(layers) - 1, -1, -1):
            layer = layers[place]
            layer.product(layer.d_seen, layer.samples, out=layer.weight_gradient)
            torch.mv(layer.d_rows, self.ones, out=layer.bias_gradient)
            if place == 0:
                return
            before = layers[place - 1]
            layer.product(layer.weight_turned, layer.d_seen, out=layer.d_before)
            if before.mask is not None:
                before.d.mul_(before.mask)
            if before.backward is not None:
                before.backward(before.d, before.z, before.a)

    def drop(self, generator: torch.Generator, members: Sequence[int], rates: Sequence[float]) -> None:
        """Draw dropout masks for some of the networks, layer by layer, samples first; on the CPU those of torch's own dropout."""
        for layer, rate in zip(self.layers, rates, strict=True):
            if rate > 0:
                assert layer.mask is not None
                noise = layer.mask.new_empty(self.n, layer.mask.shape[1]).bernoulli_(1 - rate, generator=generator).div_(1 - rate)
                for member in members if len(members) < self.k else (slice(None),):
                    layer.mask[member] = noise.t()


def update_of(optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    """Return the rest of an epoch's steps of an optimizer that has made one; call it under no_grad.

    Of the fused ones it is the kernel itself: torch's own way to it takes longer than the arithmetic of a small network.
    """
    (group,) = optimizer.param_groups
    if not group.get("fused"):
        return bare_step(optimizer)
    parameters: list[Any] = group["params"]
    gradients = [parameter.grad for parameter in parameters]
    states = [optimizer.state[parameter] for parameter in parameters]
    rate, decay, maximize = group["lr"], group["weight_decay"], group["maximize"]
    if type(optimizer) is torch.optim.SGD:
        momenta = [state["momentum_buffer"] for state in states] if group["momentum"] else []
        rest = {name: group[name] for name in ("momentum", "dampening", "nesterov")}

        def descend() -> None:
            torch._fused_sgd_(
                parameters, gradients, momenta, weight_decay=decay, lr=rate, maximize=maximize, is_first_step=False, **rest
            )

        return descend
    if type(optimizer) not in (torch.optim.Adam, torch.optim.AdamW) or group["amsgrad"]:
        return bare_step(optimizer)
    kernel = torch._fused_adamw_ if group.get("decoupled_weight_decay") else torch._fused_adam_
    steps, means, squares = ([state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq"))
    (beta1, beta2), eps = group["betas"], group["eps"]

    def adapt() -> None:
        torch._foreach_add_(steps, 1)
        kernel(
            *(parameters, gradients, means, squares, [], steps),
            lr=rate, beta1=beta1, beta2=beta2, weight_decay=decay, eps=eps, amsgrad=False, maximize=maximize,
        )  # fmt: skip

    return adapt


def outputs_of(stacks: Sequence[Stack], images: torch.Tensor) -> torch.Tensor:
    """Return what the K networks make of images (n, in), outside training: (K, width, n)."""
    values, n = images.t(), len(images)
    for place, stack in enumerate(stacks):
        flat = place == 0  # one product for all networks
        weight, bias = stack.factors(flat=flat)
        add_product, _ = products_of(stack.weight, n, flat=flat)
        made = stack.weight.new_empty(len(stack.linears), stack.width, n)
        add_product(bias, weight, values, out=made.view(-1, n) if flat else made)
        values = made
        if stack.kind is not None:
            activate, _ = FORMS[stack.kind]
            into = values if stack.kind in BY_RESULT else torch.empty_like(values)
            activate(values, into)
            values = into
    return values
