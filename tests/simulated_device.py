"""A simulated CUDA device: tensors that report `cuda:N`, compute in ordinary memory and refuse what a GPU refuses.

Inside `simulated_cuda()` torch reports CUDA devices. Operands on two devices and `numpy()` of device memory raise torch's own
errors, random numbers and results are the CPU's, and each wait of the host for the device is counted with the line that caused it.

Each device is a subclass of torch.Tensor; a mode sees every call of torch's Python interface, moves factories and copies to the
device, and checks operands. What happens inside one of torch's functions is not seen, so HOST_WAITS lists the ones that wait there.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
MEMORY_BYTES = 16 * 2**30  # of each device, as it reports it
MOST_DEVICES = 4
Tensor = torch.Tensor
REAL_GENERATOR, REAL_AUTOCAST, REAL_GROUPING = torch.Generator, torch.autocast, torch._C._group_tensors_by_device_and_dtype


class DeviceTensor(Tensor):
    """A tensor on a simulated device; each device has a subclass of its own."""

    place: ClassVar[torch.device]

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return call(func, args, kwargs or {})

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            with torch.no_grad():
                copied = self.clone().requires_grad_(self.requires_grad)
            if getattr(self, "_is_param", False):
                copied._is_param = True  # type: ignore[attr-defined]  # what makes a tensor of a subclass a torch Parameter
            memo[id(self)] = copied
        return memo[id(self)]  # type: ignore[no-any-return]


DEVICES: list[type[DeviceTensor]] = [
    type(f"Cuda{index}Tensor", (DeviceTensor,), {"place": torch.device("cuda", index)}) for index in range(MOST_DEVICES)
]
WAITS: Counter[str] = Counter()  # by line of this project
CURRENT = threading.local()


def current_device() -> int:
    return getattr(CURRENT, "index", 0)


def place_of(tensor: Tensor) -> torch.device:
    """Return where a tensor is, without a call that the mode would see."""
    return type(tensor).place if isinstance(tensor, DeviceTensor) else memory_of(tensor)


def memory_of(tensor: Tensor) -> torch.device:
    with torch._C.DisableTorchFunction():
        return tensor.device


def as_device(value: Any) -> torch.device | None:
    """Return the device that an argument names; None where it names none."""
    if isinstance(value, bool) or not isinstance(value, (torch.device, str, int)):
        return None
    device = torch.device("cuda", value) if isinstance(value, int) else torch.device(value)
    return torch.device("cuda", current_device()) if device.type == "cuda" and device.index is None else device


def moved(value: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of ordinary memory as one of a device, without a copy."""
    if device.type != "cuda" or memory_of(value).type == "meta":
        return value
    if device.index >= torch.cuda.device_count():
        raise RuntimeError("CUDA error: invalid device ordinal")
    kind = DEVICES[device.index]
    if value.requires_grad and value.is_leaf:
        return Tensor._make_subclass(kind, value.detach(), True)
    return value.as_subclass(kind)


def plain(value: Tensor) -> Tensor:
    """Return the ordinary memory of a tensor."""
    return value.as_subclass(Tensor) if isinstance(value, DeviceTensor) else value


def wait(times: int = 1) -> None:
    """Count waits of the host for the device, under the nearest line of this project."""
    if times == 0:
        return
    frame = sys._getframe(1)
    while frame is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(ROOT) and path.name != Path(__file__).name and ".venv" not in path.parts:
            break
        frame = frame.f_back  # type: ignore[assignment]
    line = "elsewhere" if frame is None else f"{path.relative_to(ROOT)}:{frame.f_lineno}"
    WAITS[line] += times


def tensors_in(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from tensors_in(part)
    elif isinstance(value, Sequence) and not isinstance(value, (str, bytes, torch.Size)):
        for part in value:
            yield from tensors_in(part)


def wrapped(value: Any, device: torch.device, inputs: set[int]) -> Any:
    """Return a result with its tensors on a device; inputs that are returned, as in-place functions do, stay as they are."""
    if isinstance(value, Tensor):
        return value if id(value) in inputs or isinstance(value, DeviceTensor) else moved(value, device)
    if isinstance(value, (tuple, list)) and any(isinstance(part, (Tensor, tuple, list)) for part in value):
        parts = [wrapped(part, device, inputs) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def unlike(first: torch.device, second: torch.device) -> RuntimeError:
    return RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {first} and {second}!")


# Functions of several tensors whose devices may differ: copies between devices, and questions about tensors.
CROSSING = {"copy_", "_has_compatible_shallow_copy_type", "is_same_size", "set_", "__deepcopy__", "__reduce_ex__", "__dir__"}
JOINING = {"stack", "cat", "concat", "concatenate", "hstack", "vstack", "_foreach_mul_"}  # which refuse a CPU scalar as well


def device_of(name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> torch.device | None:
    """Return the simulated device of a call's tensors, None where there is none.

    Raises:
        RuntimeError: torch's own, where they are on two devices. A CPU tensor without dimensions goes with any device.
    """
    tensors = list(tensors_in((args, kwargs)))
    places = {place_of(tensor) for tensor in tensors if isinstance(tensor, DeviceTensor)}
    if not places:
        return None
    device = next(iter(places))
    if name in CROSSING:
        return device
    if len(places) > 1:
        raise unlike(*sorted(places, key=str)[:2])
    written = tensors[0] if name.endswith("_") and not name.endswith("__") else None
    for tensor in (*tensors, *tensors_in(kwargs.get("out"))):
        here = place_of(tensor)
        if here != CPU:
            continue
        with torch._C.DisableTorchFunction():
            scalar = tensor.dim() == 0
        if not scalar or name in JOINING or tensor is written or any(tensor is out for out in tensors_in(kwargs.get("out"))):
            raise unlike(device, here)
    return device


def call(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Call one of torch's functions as a GPU's tensors would answer it."""
    special = SPECIAL.get(func)
    if special is not None:
        return special(func, args, kwargs)
    name = getattr(func, "__name__", "")
    device = device_of(name, args, kwargs)
    if name in HOST_WAITS and device is not None:
        wait(HOST_WAITS[name])
    named = as_device(kwargs["device"]) if kwargs.get("device") is not None else None
    if named is not None and named.type == "cuda":
        kwargs = {**kwargs, "device": CPU}
        if name in ("tensor", "as_tensor", "asarray") and device is None:
            wait()  # numbers of the host are copied
    target = named or device or CPU
    _check_generator(kwargs.get("generator"), target)
    if device is not None and named is not None and named != device and name in ("as_tensor", "asarray"):
        return _to(Tensor.to, (args[0], named), {})
    inputs = {id(tensor) for tensor in tensors_in((args, kwargs))}
    with torch._C.DisableTorchFunctionSubclass():
        result = func(*args, **kwargs)
        return wrapped(result, target, inputs)


def _check_generator(generator: Any, target: torch.device) -> None:
    if isinstance(generator, REAL_GENERATOR):
        its = generator.device.type
        if its != target.type and target.type != "meta":
            raise RuntimeError(f"Expected a '{target.type}' device type for generator but found '{its}'")


def _to(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    tensor, *rest = args
    source = place_of(tensor)
    target = source

    def here(value: Any) -> Any:
        nonlocal target
        if isinstance(value, Tensor):
            target = place_of(value)
            return plain(value)
        device = as_device(value)
        if device is None:
            return value
        target = device
        return CPU if device.type == "cuda" else value

    rest = [here(value) if place == 0 else value for place, value in enumerate(rest)]
    kwargs = {name: here(value) if name in ("device", "other") else value for name, value in kwargs.items()}
    if "cuda" not in (source.type, target.type):
        return func(tensor, *rest, **kwargs)
    with torch._C.DisableTorchFunctionSubclass():
        if source == target:
            return wrapped(func(tensor, *rest, **kwargs), target, {id(tensor)})
        if target.type == "meta":
            return func(plain(tensor), *rest, **kwargs)
        if source.type == "meta":
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")
        wait()
        return moved(func(plain(tensor), *rest, **kwargs).clone(memory_format=torch.preserve_format), target)


def _cpu(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    return _to(Tensor.to, (args[0], CPU), kwargs)


def _cuda(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    device = as_device(args[1] if len(args) > 1 else kwargs.get("device"))
    return _to(Tensor.to, (args[0], device or torch.device("cuda", current_device())), {})


def _no_numpy(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    (tensor, *_) = args
    if not isinstance(tensor, DeviceTensor):
        return func(*args, **kwargs)
    if not kwargs.get("force"):
        raise TypeError(
            f"can't convert {place_of(tensor)} device type tensor to numpy. "
            "Use Tensor.cpu() to copy the tensor to host memory first."
        )
    wait()
    with torch._C.DisableTorchFunctionSubclass():
        return plain(tensor).detach().clone().numpy()


def _index(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Read or write places of a tensor: indices may be the host's (then they are copied), a mask waits for its count."""
    tensor, index, *value = args
    parts = list(index) if isinstance(index, tuple) else [index]
    chosen = [part for part in parts if isinstance(part, (Tensor, list)) or hasattr(part, "__array_interface__")]
    device = place_of(tensor)
    for part in chosen:
        here = place_of(part) if isinstance(part, Tensor) else CPU
        if here.type == "cuda" and here != device:
            raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor ({device})")
        if device.type == "cuda":
            masks = isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8)
            wait(int(masks) + int(here == CPU))
    for given in tensors_in(value):
        if place_of(given) != device and (chosen or device.type != "cuda") and not (given.dim() == 0 and place_of(given) == CPU):
            raise unlike(device, place_of(given))
        if place_of(given) != device and given.dim() > 0:
            wait()
    with torch._C.DisableTorchFunctionSubclass():
        return wrapped(func(*args, **kwargs), device, {id(tensor)})


def _copy(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    places = {place_of(tensor) for tensor in tensors_in(args[:2])}
    if len(places) > 1:
        wait()
    with torch._C.DisableTorchFunctionSubclass():
        func(*args, **kwargs)
    return args[0]


def _set_same(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Set `grad` or `data`, of the tensor's own device."""
    places = [place_of(tensor) for tensor in tensors_in(args)]
    if len(set(places)) > 1:
        raise RuntimeError(f"assigned grad or data has another device than the tensor: {places[1]} and {places[0]}")
    with torch._C.DisableTorchFunctionSubclass():
        return func(*args, **kwargs)


def _reduce(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    (tensor, *rest) = args
    with torch._C.DisableTorchFunctionSubclass():
        return func(plain(tensor).detach() if isinstance(tensor, DeviceTensor) else tensor, *rest)


def _answer(by_device: Callable[[torch.device], Any]) -> Callable[..., Any]:
    def answered(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        return by_device(place_of(args[0]))

    return answered


SPECIAL: dict[Any, Callable[..., Any]] = {
    Tensor.device.__get__: _answer(lambda place: place),  # type: ignore[attr-defined]
    Tensor.is_cuda.__get__: _answer(lambda place: place.type == "cuda"),  # type: ignore[attr-defined]
    Tensor.is_cpu.__get__: _answer(lambda place: place.type == "cpu"),  # type: ignore[attr-defined]
    Tensor.get_device: _answer(lambda place: place.index if place.type == "cuda" else -1),
    Tensor.to: _to,
    Tensor.cpu: _cpu,
    Tensor.cuda: _cuda,
    Tensor.numpy: _no_numpy,
    Tensor.__array__: _no_numpy,
    Tensor.__getitem__: _index,
    Tensor.__setitem__: _index,
    Tensor.copy_: _copy,
    Tensor.grad.__set__: _set_same,  # type: ignore[attr-defined]
    Tensor.data.__set__: _set_same,  # type: ignore[attr-defined]
    Tensor.__reduce_ex__: _reduce,
}
# Functions in which CUDA makes the host wait, with how often.
HOST_WAITS = {
    **dict.fromkeys(("item", "tolist", "__bool__", "__int__", "__float__", "__index__", "__complex__", "is_nonzero", "equal"), 1),
    **dict.fromkeys(("allclose", "nonzero", "argwhere", "masked_select", "unique", "unique_consecutive", "multinomial"), 1),
    **dict.fromkeys(("repeat_interleave", "_unique2", "__repr__", "__format__", "__contains__"), 1),
    **dict.fromkeys(("bincount", "histc"), 2),  # the smallest and the largest value
}


class DeviceMode(TorchFunctionMode):
    """Sends every call of torch's Python interface through `call`."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return call(func, args, kwargs or {})


class Generator(REAL_GENERATOR):  # type: ignore[misc, valid-type]
    """A generator of random numbers of a device, which draws the CPU's."""

    def __new__(cls, device: Any = "cpu") -> Generator:
        made = super().__new__(cls, "cpu")
        made.place = as_device(device)
        return made  # type: ignore[no-any-return]

    def __init__(self, device: Any = "cpu") -> None:
        super().__init__()

    @property
    def device(self) -> Any:
        return self.place


class Autocast(REAL_AUTOCAST):
    """torch.autocast, whose CUDA lists are the CPU's here."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


class Event:
    """A point in time of a device, which is the host's."""

    def __init__(self, enable_timing: bool = False) -> None:
        self.seconds = 0.0

    def record(self, stream: Any = None) -> None:
        self.seconds = time.perf_counter()

    def synchronize(self) -> None:
        wait()

    def elapsed_time(self, end: Event) -> float:
        return 1000 * (end.seconds - self.seconds)


def grouped(lists: Any, with_indices: bool = False) -> Any:
    """torch's grouping of tensors by device and type, which reads the device of their memory."""
    first = lists[0][0]
    found = REAL_GROUPING(lists, with_indices)
    return {(place_of(first), kind): value for (_, kind), value in found.items()}


def _stubs(n_devices: int) -> dict[str, Any]:
    name, memory = "simulated device", (MEMORY_BYTES, MEMORY_BYTES)
    facts = SimpleNamespace(name=name, total_memory=MEMORY_BYTES, major=9, minor=0, multi_processor_count=1)

    def set_device(device: Any) -> None:
        place = as_device(device)
        CURRENT.index = 0 if place is None else place.index

    return {
        "is_available": lambda: n_devices > 0,
        "device_count": lambda: n_devices,
        "is_initialized": lambda: True,
        "_lazy_init": lambda: None,
        "current_device": current_device,
        "set_device": set_device,
        "get_device_name": lambda device=None: name,
        "get_device_properties": lambda device=None: facts,
        "get_device_capability": lambda device=None: (9, 0),
        "is_bf16_supported": lambda including_emulation=True: True,
        "is_current_stream_capturing": lambda: False,
        "mem_get_info": lambda device=None: memory,
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "reset_peak_memory_stats": lambda device=None: None,
        "empty_cache": lambda: None,
        "Event": Event,
        "current_stream": lambda device=None: None,
        "synchronize": lambda device=None: wait(),
        "get_rng_state": lambda device="cuda": torch.get_rng_state(),
        "set_rng_state": lambda state, device="cuda": None,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
    }


def _run_with_mode(run: Callable[[threading.Thread], None], thread: threading.Thread) -> None:
    with DeviceMode():
        run(thread)


@contextlib.contextmanager
def simulated_cuda(n_devices: int = 1) -> Iterator[Counter[str]]:
    """Let torch have CUDA devices within a block; yields the host's waits, counted by line.

    CUDA_VISIBLE_DEVICES chooses among them, as of real ones.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        n_devices = len([part for part in visible.split(",") if part])
    from torch.optim import optimizer
    from torch.utils import _foreach_utils

    before = torch.__future__.get_overwrite_module_params_on_conversion()
    run = threading.Thread.run
    WAITS.clear()
    with contextlib.ExitStack() as stack:
        for name, stub in _stubs(n_devices).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stub))
        for owner, name, value in (
            (torch, "Generator", Generator),
            (torch, "autocast", Autocast),
            (torch.amp, "autocast", Autocast),
            (torch._C, "_group_tensors_by_device_and_dtype", grouped),
            (optimizer, "_foreach_supported_types", [*optimizer._foreach_supported_types, *DEVICES]),
            (_foreach_utils, "_foreach_supported_types", [*_foreach_utils._foreach_supported_types, *DEVICES]),
            (threading.Thread, "run", lambda thread: _run_with_mode(run, thread)),
        ):
            stack.enter_context(mock.patch.object(owner, name, value))
        for name in ("_accelerator_graph_capture_health_check", "_cuda_graph_capture_health_check"):  # torch's versions
            if hasattr(optimizer.Optimizer, name):
                stack.enter_context(mock.patch.object(optimizer.Optimizer, name, return_value=None))
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, before)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        stack.enter_context(DeviceMode())
        yield WAITS
