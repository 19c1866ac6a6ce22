"""Lets several processes train one dictionary: by data (a part of the batch each) or by features (a part of them each).

Without `torchrun` there is one process and every exchange is nothing. All processes must make the same exchanges in the
same order: a decision that may differ between them (a clock, Ctrl-C) goes through `any` first.
"""

import os
from datetime import timedelta
from typing import Literal

import torch
import torch.distributed as dist
from torch import Tensor

from sae.common.errors import UserError
from sae.training.flat import Flat

Split = Literal["data", "features"]
TIMEOUT = timedelta(hours=6)
"""How long a process waits for another: the first one may train a subject meanwhile. `torchrun` notices who dies."""
HINT = "start the processes with `torchrun --nproc_per_node N`, or unset WORLD_SIZE for one process"


class Ranks:
    """Trains in one process alone, which already has what the subclasses exchange."""

    rank, world = 0, 1
    part, parts = 0, 1
    """Which part of each batch is this process's, and of how many; parts are equally large."""

    @property
    def first(self) -> bool:
        """Whether this process is the one that prints and writes what is needed once."""
        return self.rank == 0

    def features_here(self, n_features: int) -> int:
        """Return how many of the features this process has."""
        return n_features

    def own_features(self, whole_F: Tensor) -> Tensor:
        """Return this process's rows of a tensor that has one per feature."""
        return whole_F

    def gather_features(self, own_F: Tensor) -> Tensor:
        """Return the rows of all features, from those of this process's."""
        return own_F

    def sum_over_features(self, partial: Tensor) -> Tensor:
        """Return the sum of every process's share of what is computed feature by feature, in place."""
        return partial

    def least_over_features(self, least: Tensor) -> Tensor:
        """Return the least of what each process found among its features, in place."""
        return least

    def gather_parts(self, own_B: Tensor) -> Tensor:
        """Return the rows of the whole batch, from those of this process's part."""
        return own_B

    def sum_over_parts(self, partial: Tensor) -> Tensor:
        """Return the sum over the parts of the batch, in place."""
        return partial

    def average_over_parts(self, partial: Tensor) -> Tensor:
        """Replace values by their mean over the parts, in place: of a gradient, the whole batch's."""
        return partial if self.parts == 1 else self.sum_over_parts(partial).div_(self.parts)

    def any_fired(self, fired_F: Tensor) -> None:
        """Combine which features were active in any process's part of the batch, in place."""

    def square_norm(self, flat: Flat) -> Tensor:
        """Return the squared norm of a complete gradient, whichever process has which part."""
        norm: Tensor = torch.linalg.vector_norm(flat.buffer)
        return norm.square()

    def kept(self, values: Tensor, k: int) -> Tensor:
        """Keep of each row's values [..., n] >= 0 the k largest among all features' values; set the others to 0.

        Every process gives its own features' values, of which at most k can be among them. As many as are equal to
        the k-th are kept. A process alone has chosen already.
        """
        return values

    def any(self, here: bool) -> bool:
        """Tell whether it holds in any process."""
        return here

    def same(self, value: Tensor) -> Tensor:
        """Return the first process's value."""
        return value

    def barrier(self) -> None:
        """Wait until all processes are here."""

    def leave(self) -> None:
        """Leave the group of processes, after which nothing can be exchanged."""


class _Several(Ranks):
    """Shares the code of both ways to divide the work."""

    def __init__(self, rank: int, world: int) -> None:
        self.rank, self.world = rank, world

    def any(self, here: bool) -> bool:
        flag = torch.tensor(int(here))  # on the CPU: no process waits for its GPU
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    def same(self, value: Tensor) -> Tensor:
        shared = value.clone(memory_format=torch.contiguous_format)
        dist.broadcast(shared, 0)
        return shared

    def barrier(self) -> None:
        self.any(False)

    def leave(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()

    def _gathered(self, own: Tensor) -> list[Tensor]:
        """Return every process's tensor, all of one shape."""
        own = own.contiguous()
        every = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(every, own)
        return every


class DataParallel(_Several):
    """Gives every process all features and its own part of each batch."""

    def __init__(self, rank: int, world: int) -> None:
        super().__init__(rank, world)
        self.part, self.parts = rank, world

    def gather_parts(self, own_B: Tensor) -> Tensor:
        return torch.cat(self._gathered(own_B))

    def sum_over_parts(self, partial: Tensor) -> Tensor:
        dist.all_reduce(partial)
        return partial

    def any_fired(self, fired_F: Tensor) -> None:
        as_bytes_F = fired_F.to(torch.uint8)
        dist.all_reduce(as_bytes_F, dist.ReduceOp.MAX)
        fired_F.copy_(as_bytes_F)


class FeatureParallel(_Several):
    """Gives every process the whole batch and its own part of the features, in order."""

    def features_here(self, n_features: int) -> int:
        if n_features % self.world:
            raise UserError(f"{n_features} features cannot be shared evenly by {self.world} processes")
        return n_features // self.world

    def own_features(self, whole_F: Tensor) -> Tensor:
        return whole_F.chunk(self.world)[self.rank]

    def gather_features(self, own_F: Tensor) -> Tensor:
        return torch.cat(self._gathered(own_F))

    def sum_over_features(self, partial: Tensor) -> Tensor:
        dist.all_reduce(partial)
        return partial

    def least_over_features(self, least: Tensor) -> Tensor:
        dist.all_reduce(least, dist.ReduceOp.MIN)
        return least

    def square_norm(self, flat: Flat) -> Tensor:
        """Return the squared norm, in which the decoder bias, which every process has, counts once."""
        same = [flat[name].flatten() for name in ("b_dec", "W_skip") if name in flat.parts]  # in every process
        whole = sum((torch.dot(part, part) for part in same), flat.buffer.new_zeros(()))
        return self.sum_over_features(super().square_norm(flat) - whole) + whole

    def kept(self, values: Tensor, k: int) -> Tensor:
        n = values.shape[-1]
        own = values if n <= k else values.topk(k, dim=-1, sorted=False).values
        own = torch.nn.functional.pad(own, (0, max(0, k - n)))  # zeros push out nothing that is active
        kth = torch.cat(self._gathered(own), -1).topk(k, dim=-1, sorted=False).values.amin(-1, keepdim=True)
        return values * (values >= kth)


def join(split: Split, device: str = "auto", experimental: bool = False) -> Ranks:
    """Join the processes that `torchrun` has started with this one, if it has: by gloo on CPUs, by NCCL on GPUs.

    Args:
        device: what will be trained on; unless it is "cpu", this process is given a GPU of its own where there are any.
        experimental: allow GPUs, on which several processes have never run.

    Raises:
        UserError: several processes on GPUs without `experimental`; WORLD_SIZE is set, but the rest is not or makes no
            sense; the others cannot be reached; too few GPUs.
    """
    world = _number("WORLD_SIZE") if "WORLD_SIZE" in os.environ else 1
    if world == 1:
        return Ranks()
    _check(world)
    if device.startswith("cuda:"):
        raise UserError(f"runtime.device={device} would be shared by {world} processes; give cuda, for one each")
    on_gpu = device != "cpu" and torch.cuda.is_available()
    if on_gpu and not experimental:
        raise UserError(
            "training with several GPUs has never been tried; set runtime.experimental=true to try it, or "
            "runtime.device=cpu, or start one process"
        )
    if on_gpu:
        _take_gpu()
    if not dist.is_initialized():
        _meet("cpu:gloo,cuda:nccl" if on_gpu and dist.is_nccl_available() else "gloo")
    made = {"data": DataParallel, "features": FeatureParallel}[split]
    return made(dist.get_rank(), world)


def _check(world: int) -> None:
    """Raise UserError if the environment is not what `torchrun` makes of it."""
    if not dist.is_available():
        raise UserError("this build of torch trains with one process only; unset WORLD_SIZE")
    missing = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if missing:
        raise UserError(f"WORLD_SIZE is {world}, but not set: {', '.join(missing)}; {HINT}")
    if not 0 <= _number("RANK") < world or world < 1:
        raise UserError(f"RANK is {os.environ['RANK']} of WORLD_SIZE {world}; {HINT}")
    _number("MASTER_PORT")


def _number(name: str) -> int:
    try:
        return int(os.environ[name])
    except ValueError:
        raise UserError(f"{name} is {os.environ[name]!r}, not a number; {HINT}") from None


def _take_gpu() -> None:
    """Let "cuda" mean this process's own GPU."""
    local = _number("LOCAL_RANK" if "LOCAL_RANK" in os.environ else "RANK")
    n_gpus = torch.cuda.device_count()
    if local >= n_gpus:
        raise UserError(f"process {local} of this machine has no GPU, there are {n_gpus}; start at most {n_gpus}")
    torch.cuda.set_device(local)


def _meet(backend: str) -> None:
    try:
        dist.init_process_group(backend, timeout=TIMEOUT)
    except (dist.DistError, ValueError) as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise UserError(f"process {os.environ['RANK']} met no others at {where}: {reason}") from error
