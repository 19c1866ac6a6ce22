"""Chooses the device to compute on: the one that is asked for, a GPU, or the CPU."""

import torch

from sae.common.errors import UserError, shortened


def choose_device(device: str = "auto") -> tuple[str, str]:
    """Return the device to use, and the reason in words."""
    if device != "auto":
        _refuse_absent(device)
        return device, "as asked"
    if torch.cuda.is_available():
        return "cuda", f"found {torch.cuda.get_device_name()}"
    return "cpu", "no CUDA device found"


def _refuse_absent(device: str) -> None:
    """Raise UserError if a tensor cannot be made and read on a device."""
    try:
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError, ValueError, TypeError, NotImplementedError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise UserError(f"there is no device {device!r} here ({shortened(reason)}); give auto or cpu") from error


def device_with_doubles(device: str, work: str, remedy: str) -> tuple[str, str]:
    """Choose a device as `choose_device` does. Raises UserError if it is missing or lacks double precision (mps).

    Args:
        work: what is to be done there, for the message.
        remedy: the end of the message: what to do instead.
    """
    device, reason = choose_device(device)
    try:
        torch.zeros(1, dtype=torch.float64, device=device)
    except (RuntimeError, TypeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise UserError(f"cannot {work} on device {device}: {why}; {remedy}") from error
    return device, reason
