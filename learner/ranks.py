"""The process group of a learner's ranks: one process per rank, collectives in the same order on all of them."""

import os
import socket
from datetime import timedelta
from typing import Any, Literal

import torch
from torch import Tensor

from learner.deepspeed_import import deepspeed


class Ranks:
    """One rank's membership in the group.

    Attributes:
        rank: number of this rank, 0..world - 1.
        world: how many ranks there are.
        device: where this rank computes.
    """

    def __init__(
        self,
        *,
        rank: int,
        world: int,
        host: str,
        port: int,
        device: Literal["cpu", "cuda"],
        timeout_s: float,
        gpu: int = 0,
        listener: socket.socket | None = None,
    ) -> None:
        """Join the group; return when all ranks have joined.

        Args:
            rank: number of this rank.
            world: how many ranks there are.
            host: where rank 0 listens.
            port: where rank 0 listens; 0 is any free port, for a rank that is alone.
            device: kind of device to compute on.
            timeout_s: limit for joining, and for each collective.
            gpu: index of this rank's GPU among those that the process sees.
            listener: rank 0's socket, if it listens there already. Without it another process may take the port between
                its choice and its use.

        Raises:
            RuntimeError: some ranks have not joined within `timeout_s`, or there is no GPU.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(f"rank {rank} sees no GPU, but cluster.device is cuda: give it one, or set it to cpu")
        self.rank, self.world = rank, world
        self.device = torch.device(device, gpu) if device == "cuda" else torch.device("cpu")
        if device == "cuda":
            _let_segments_grow()
            torch.cuda.set_device(self.device)
        else:
            torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
        _set_environment(rank, gpu, world, host, port)
        self._deepspeed = deepspeed(device)
        try:
            self._store = self._join(host, port, timedelta(seconds=timeout_s), listener)
        except RuntimeError as error:
            raise RuntimeError(
                f"rank {rank} waited up to {timeout_s:.0f} s at {host}:{port} for all {world} ranks to join: {error}"
            ) from error

    def _join(self, host: str, port: int, timeout: timedelta, listener: socket.socket | None) -> Any:
        on_gpu = self.device.type == "cuda"
        backend = "nccl" if on_gpu else "gloo"
        store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
            host,
            port,
            self.world,
            is_master=self.rank == 0,
            timeout=timeout,
            master_listen_fd=listener.detach() if listener else None,
        )
        torch.distributed.init_process_group(
            backend,
            store=store,
            rank=self.rank,
            world_size=self.world,
            timeout=timeout,
            device_id=self.device if on_gpu and self.world > 1 else None,  # as DeepSpeed does
        )
        self._deepspeed.init_distributed(backend, verbose=False, timeout=timeout)  # takes the group that there is
        return store

    def broadcast_bytes(self, payload: bytes) -> bytes:
        """Return rank 0's `payload` on every rank; what the other ranks pass is ignored. A collective."""
        length = torch.tensor([len(payload)], device=self.device)
        torch.distributed.broadcast(length, src=0)
        if self.rank == 0:
            data = torch.frombuffer(bytearray(payload), dtype=torch.uint8) if payload else torch.empty(0)
        else:
            data = torch.empty(int(length), dtype=torch.uint8)
        if int(length) == 0:
            return b""
        data = data.to(self.device)
        torch.distributed.broadcast(data, src=0)
        return data.cpu().numpy().tobytes()

    def gather_bytes(self, payload: bytes) -> list[bytes]:
        """Return every rank's `payload`, in the order of ranks, on every rank. A collective."""
        lengths = torch.zeros(self.world, dtype=torch.int64)
        lengths[self.rank] = len(payload)
        lengths = self.sum(lengths)
        table = torch.zeros(self.world, int(lengths.max()), dtype=torch.uint8)
        if payload:
            table[self.rank, : len(payload)] = torch.frombuffer(bytearray(payload), dtype=torch.uint8)
        return [row[:length].numpy().tobytes() for row, length in zip(self.sum(table), lengths.tolist(), strict=True)]

    def on_this_machine(self) -> int:
        """Return how many of the ranks are processes of this machine, this one among them. A collective."""
        own = socket.gethostname().encode()
        return self.gather_bytes(own).count(own)

    def gather_beside(self, key: str, payload: bytes, timeout_s: float) -> list[bytes]:
        """Return every rank's `payload`, in the order of ranks, on rank 0; nothing on the others, which wait for nobody.

        No collective: any thread may call it, beside the collectives of another.

        Args:
            key: the same on all ranks, and another one each time.
            payload: of this rank.
            timeout_s: for each of the other ranks.

        Raises:
            TimeoutError: a rank has not called it in time.
        """
        store = self._store.clone()  # a connection of its own, since a wait blocks the connection
        store.set(f"{key}/{self.rank}", payload)
        if self.rank > 0:
            return []
        payloads = []
        for rank in range(self.world):
            try:
                store.wait([f"{key}/{rank}"], timedelta(seconds=timeout_s))
            except RuntimeError as error:  # DistStoreError
                raise TimeoutError(f"rank 0 waited {timeout_s:.0f} s for rank {rank} and its {key}: {error}") from error
            payloads.append(bytes(store.get(f"{key}/{rank}")))
            store.delete_key(f"{key}/{rank}")
        return payloads

    def sum(self, values: Tensor) -> Tensor:
        """Return `values` (any shape) summed over the ranks, on the CPU. A collective."""
        total = values.detach().to(self.device, copy=True)
        torch.distributed.all_reduce(total)
        return total.cpu()

    def barrier(self) -> None:
        """Return when all ranks have come here. A collective."""
        self.sum(torch.zeros(1))

    def leave(self) -> None:
        """End the group; the process may then join another. For tests: in a run the process is killed."""
        self._deepspeed.comm.destroy_process_group()
        self._deepspeed.comm.comm.cdb = None
        del self._store  # rank 0 stops listening


def _let_segments_grow() -> None:
    """Let torch's allocator on GPUs extend the segments that it has: rows differ in length, and pieces would be left over.

    It reads its settings when it is first used. Those of the user, if there are any, stand.
    """
    if not {"PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF"} & os.environ.keys():
        os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"


def _set_environment(rank: int, local: int, world: int, host: str, port: int) -> None:
    """Set the variables that torch and DeepSpeed read."""
    if host == "127.0.0.1":
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    place = {"RANK": rank, "LOCAL_RANK": local, "WORLD_SIZE": world, "LOCAL_SIZE": world}
    os.environ |= {name: str(value) for name, value in place.items()} | {"MASTER_ADDR": host, "MASTER_PORT": str(port)}
