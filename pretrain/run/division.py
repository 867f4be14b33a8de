"""How the processes of a run share a global batch."""

from dataclasses import dataclass

from convbert.models.errors import UserError


@dataclass(frozen=True)
class BatchDivision:
    """How a global batch is divided: ``world`` processes, ``accumulation`` micro-batches each."""

    global_batch: int
    micro_batch: int
    accumulation: int
    world: int

    @classmethod
    def of(cls, global_batch: int, micro_batch: int | None, world: int) -> "BatchDivision":
        """Derive the division; raises ``UserError`` if the global batch cannot be divided."""
        if global_batch % world:
            raise UserError(
                f"global_batch={global_batch} cannot be divided over {world} processes; use a "
                "multiple"
            )
        share = global_batch // world
        micro = min(micro_batch or share, share)
        if share % micro:
            raise UserError(
                f"micro_batch={micro} does not divide the {share} sequences of each process; use "
                "a divisor"
            )
        return cls(global_batch, micro, share // micro, world)

    def rows(self, index: int) -> tuple[int, int]:
        """Return ``[first, last)``: the process's rows that are in its micro-batch ``index``."""
        return index * self.micro_batch, (index + 1) * self.micro_batch
