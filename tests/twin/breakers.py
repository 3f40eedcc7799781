"""A breaker: closed, tripped, recovering, closed again."""

from dataclasses import dataclass, field

CLOSED, TRIPPED, RECOVERING = "closed", "tripped", "recovering"
SAMPLE_EVERY_NS = 10_000_000_000
SAMPLES_MAX = 64


@dataclass
class Breaker:
    state: str = CLOSED
    calm_since_ns: int = 0

    @property
    def closed(self) -> bool:
        return self.state == CLOSED

    @property
    def tripped(self) -> bool:
        return self.state == TRIPPED

    def step(self, value: float, clock_ns: int, trip: float, reset: float, cooldown_ns: int) -> None:
        """One look at the value. In recovery the cooldown starts anew when the value isn't below `reset`."""
        if self.state == CLOSED:
            if value > trip:
                self.state = TRIPPED
        elif self.state == TRIPPED:
            if value < reset:
                self.state, self.calm_since_ns = RECOVERING, clock_ns
        elif value > trip:
            self.state = TRIPPED
        elif value >= reset:
            self.calm_since_ns = clock_ns
        elif clock_ns - self.calm_since_ns >= cooldown_ns:
            self.state = CLOSED


@dataclass
class MoveWindow:
    """Marks of the last minutes, one every 10 s of clock, and how far the mark is from the oldest of them."""

    samples: list[tuple[int, float]] = field(default_factory=list)

    def move(self, mark: float, clock_ns: int, window_ns: int) -> float:
        if not self.samples or clock_ns - self.samples[-1][0] >= SAMPLE_EVERY_NS:
            self.samples = [*self.samples, (clock_ns, mark)][-SAMPLES_MAX:]
        within = [(moment, seen) for moment, seen in self.samples if clock_ns - moment <= window_ns]
        return abs(mark / within[0][1] - 1) if within else 0.0
