"""What a fuzz target is, and how inputs are drawn for it without coverage."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hypothesis import strategies as st


@dataclass(frozen=True, kw_only=True)
class Target:
    """A reader of bytes that others wrote.

    Attributes:
        run: reads an input; errors that the reader documents are caught there, and any other is a finding.
        seeds: the corpus to begin with, made by code.
        words: pieces that the format's grammar has, for the fuzzer's dictionary.
    """

    run: Callable[[bytes], None]
    seeds: Callable[[], Iterable[bytes]]
    words: tuple[bytes, ...] = ()


def inputs(target: Target) -> st.SearchStrategy[bytes]:
    """Seeds of a target with a few edits: bytes replaced by others, by words, or by parts of other seeds."""
    seeds = sorted(target.seeds())
    parts = [*target.words, *(seed[:40] for seed in seeds), b"", b"\0", b"\xff" * 4, b"9" * 30]
    piece = st.one_of(st.sampled_from(parts), st.binary(max_size=8))
    edit = st.tuples(st.floats(0, 1), st.integers(0, 24), piece)

    def edited(seed: bytes, edits: list[tuple[float, int, bytes]]) -> bytes:
        for place, num_gone, new in edits:
            start = int(place * len(seed))
            seed = seed[:start] + new + seed[start + num_gone :]
        return seed

    return st.builds(edited, st.sampled_from(seeds), st.lists(edit, max_size=6))
