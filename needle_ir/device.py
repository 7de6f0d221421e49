"""Devices. There is one: the CPU, through NumPy."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """Where arrays live."""

    name: str

    def __repr__(self) -> str:
        return f"needle_ir.{self.name}()"


_CPU = Device("cpu")


def cpu() -> Device:
    """The CPU."""
    return _CPU


def default_device() -> Device:
    """The device of a tensor that is made without naming one."""
    return _CPU


def all_devices() -> list[Device]:
    """Every device there is."""
    return [_CPU]


def check_device(device: Device | None) -> Device:
    """The device meant, the default one for None. Raises TypeError for anything else."""
    if device is None:
        return _CPU
    if not isinstance(device, Device):
        raise TypeError(f"{device!r} is not a device; the devices are {all_devices()}")
    return device
