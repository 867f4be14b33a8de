"""One shard set in its training order, with damaged blocks replaced if the run skips them."""

import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

import numpy as np

from convbert.data_pipeline.loading.order import GlobalOrder, permute, seed_of
from convbert.data_pipeline.shards.damage import DamageLog, OnDamage, SkippedBlock
from convbert.data_pipeline.shards.store import Rows, SequenceStore, Span
from convbert.models.errors import DamagedError, UserError

# A batch may begin in one window and end in the next.
_WINDOWS = 2
_SUBSTITUTES_TRIED = 100

log = logging.getLogger(__name__)


class Stream:
    """The sequences of a store by their position in its order.

    Where reading takes a network, ``ahead``, the same store once more, belongs to a thread that
    fetches the next window while this one is in use.
    """

    def __init__(
        self,
        store: SequenceStore,
        ahead: SequenceStore,
        seed: int,
        on_damage: OnDamage,
        damage: DamageLog | None,
    ) -> None:
        manifest = store.manifest
        self.order = GlobalOrder(manifest.digest, seed, manifest.num_sequences)
        self._blocks = _Blocks(store, self.order, on_damage, damage)
        self._store = store
        self._windows: OrderedDict[tuple[int, int], Rows] = OrderedDict()
        self._ahead = ahead
        self._fetching = threading.Lock()

    def rows(self, first: int, last: int) -> Rows:
        """Return the sequences at the positions ``first`` to ``last``, excluded, [n, L]."""
        parts = [
            self._window(piece.epoch, piece.window)[piece.first : piece.last]
            for piece in self.order.pieces(first, last)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def close(self) -> None:
        """Close all files; what is being fetched is not waited for."""
        self._store.close()

    def _window(self, epoch: int, window: int) -> Rows:
        """Return a window in training order; it is read when first asked for."""
        key = (epoch, window)
        if key not in self._windows:
            if len(self._windows) >= _WINDOWS:
                self._windows.popitem(last=False)
            stored = self._blocks.read(self.order.spans(epoch, window))
            self._windows[key] = stored.take(self.order.shuffle(epoch, window), axis=0)
            self._fetch_after(epoch, window)
        return self._windows[key]

    def _fetch_after(self, epoch: int, window: int) -> None:
        """Bring the next window near, in a thread that ends with the process."""
        if self._ahead.fetches:
            last = window + 1 == self.order.windows()
            spans = self.order.spans(epoch + last, 0 if last else window + 1)
            threading.Thread(
                target=self._fetch, args=(spans,), name="shard-fetcher", daemon=True
            ).start()

    def _fetch(self, spans: Sequence[Span]) -> None:
        # What goes wrong is met again when it is read.
        with self._fetching, suppress(Exception):
            self._ahead.prepare(spans)


class _Blocks:
    """Stored blocks; one that is damaged, or was when the run read it, by its substitute."""

    def __init__(
        self, store: SequenceStore, order: GlobalOrder, on_damage: OnDamage, log: DamageLog | None
    ) -> None:
        self._store = store
        self._order = order
        self._digest = store.manifest.digest
        self._skip = on_damage == "skip"
        self._log = log
        recorded = log.read() if log else []
        self._substitutes = {b.first: b.substitute for b in recorded if b.manifest == self._digest}

    def read(self, spans: Sequence[Span]) -> Rows:
        """Return the rows of blocks; raises ``DamagedError`` unless damaged ones are skipped."""
        wanted = [self._resolve(span) for span in spans]
        return self._store.read(wanted, self._replace if self._skip else None)

    def _resolve(self, span: Span) -> Span:
        first, last = span
        while first in self._substitutes:
            first, last = self._substitutes[first], self._substitutes[first] + last - first
        return first, last

    def _replace(self, rows: Rows, span: Span, damage: DamagedError) -> None:
        """Fill ``rows`` from the first readable one of the block's candidates, and record it."""
        first, block = span[0], self._order.block
        full = self._order.size // block
        key = seed_of(self._digest, "substitute", first)
        for candidate in permute(np.arange(min(full, _SUBSTITUTES_TRIED)), full, key).tolist():
            substitute = candidate * block
            if substitute == first or substitute in self._substitutes:
                continue
            try:
                rows[:] = self._store.read([(substitute, substitute + len(rows))])
            except DamagedError:
                continue
            return self._record(first, substitute, damage)
        raise UserError(f"{damage} (no other block could be read in its place either)")

    def _record(self, first: int, substitute: int, damage: DamagedError) -> None:
        self._substitutes[first] = substitute
        last = min(first + self._order.block, self._order.size)
        log.warning("sequences %d to %d are skipped: %s", first, last - 1, damage)
        if self._log:
            self._log.add(
                SkippedBlock(
                    manifest=self._digest,
                    first=first,
                    last=last,
                    substitute=substitute,
                    reason=str(damage),
                )
            )
