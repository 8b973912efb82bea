"""Which nodes belong together: union-find over 64-bit names."""

from collections.abc import Iterable


class Components:
    """Union-find. The root of a component is its smallest node, so it does not depend on the order of joins."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def join(self, first: int, second: int) -> None:
        """Puts two nodes into one component."""
        one, other = self.root(first), self.root(second)
        self._parents.setdefault(first, first)
        self._parents.setdefault(second, second)
        self._parents[max(one, other)] = min(one, other)

    def root(self, node: int) -> int:
        """Returns the smallest node of the component; a node that was never joined is its own root."""
        while (parent := self._parents.get(node, node)) != node:
            self._parents[node] = node = self._parents.get(parent, parent)
        return node

    def nodes(self) -> Iterable[int]:
        """Returns all nodes that were joined."""
        return self._parents.keys()
