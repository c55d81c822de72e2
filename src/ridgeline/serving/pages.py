"""The KV cache of a replica in pages: what is free, what requests hold, and prefixes that are held once for a group."""

from dataclasses import dataclass

Key = tuple[int, int]  # group, tokens


@dataclass(slots=True)
class HeldPrefix:
    """Pages of a common prefix and how many requests read them."""

    pages: int
    readers: int


class Pages:
    """Pages of a fixed number of tokens, the last one of a sequence partly empty [kwon2023pagedattention, §4].

    Pages grow with decoding. A request at a cache of c tokens takes a new page in the step that writes token c + 1 where c is a
    multiple of the page; with d the decode steps so far, (c − d) mod page never changes while it decodes, so that requests
    are counted by this residue and a step's new pages are one of `page` counts.
    """

    def __init__(self, capacity: int, page: int) -> None:
        self.capacity = capacity
        self.page = page
        self.free = capacity
        self.growing = [0] * page  # decoding requests by residue
        self.held: dict[Key, HeldPrefix] = {}
        self._idle: dict[Key, HeldPrefix] = {}  # that nobody reads, least recently used first
        self._idle_pages = 0

    def of(self, tokens: int) -> int:
        """Pages that so many tokens take."""
        return -(-tokens // self.page)

    @property
    def available(self) -> int:
        """Pages that are free or hold a prefix that nobody reads."""
        return self.free + self._idle_pages

    @property
    def idle(self) -> int:
        """Pages of prefixes that nobody reads."""
        return self._idle_pages

    def take(self, pages: int) -> None:
        """Take pages that are available, from unread prefixes where no others are left."""
        while self.free < pages:
            key = next(iter(self._idle))
            found = self._idle.pop(key)
            del self.held[key]
            self._idle_pages -= found.pages
            self.free += found.pages
        self.free -= pages

    def give(self, pages: int) -> None:
        """Return pages."""
        self.free += pages

    def growth(self, decoded: int, steps: int) -> int:
        """Pages that decoding requests take over so many steps."""
        page, growing = self.page, self.growing
        cycles, rest = divmod(steps, page)
        found = cycles * sum(growing) if cycles else 0
        for step in range(rest):
            found += growing[-(decoded + step) % page]
        return found

    def steps_within(self, decoded: int, steps: int) -> int:
        """Return how many of the steps the available pages last for."""
        page, growing, left = self.page, self.growing, self.available
        if (steps // page + 1) * sum(growing) <= left:
            return steps
        for step in range(steps):
            left -= growing[-(decoded + step) % page]
            if left < 0:
                return step
        return steps

    def read(self, key: Key) -> HeldPrefix | None:
        """Return a prefix that is held, with one more reader."""
        found = self.held.get(key)
        if found is not None:
            if found.readers == 0:
                del self._idle[key]
                self._idle_pages -= found.pages
            found.readers += 1
        return found

    def share(self, key: Key, pages: int) -> bool:
        """Let pages that a request has filled be read by others of its group; False where the group has them already."""
        if pages == 0 or key in self.held:
            return False
        self.held[key] = HeldPrefix(pages, 1)
        return True

    def leave(self, key: Key) -> None:
        """Read a prefix no longer; it stays until its pages are needed."""
        found = self.held[key]
        found.readers -= 1
        if found.readers == 0:
            self._idle[key] = found
            self._idle_pages += found.pages
