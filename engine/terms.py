"""The terms that every machine goes by: clock, parameters and definitions, each taken or refused by the same rules."""

from engine.inputs import AnyDefinition, RiskParameters
from engine.market_arrays import nanoseconds
from engine.parameters import Parameters, parse_parameters
from engine.reasons import Refusal
from engine.universe import Fault, Universe


class Terms:
    """Attestors hold this alone, books and the treasury as part of a market. What one of them refuses, all do."""

    def __init__(self) -> None:
        self.universe = Universe()
        self.parameters = Parameters()
        self.parameters_version = ""  # empty until `set_parameters`: nothing can be valued before
        self.clock_ns = 0  # 0 until the first tick: nothing can be valued before

    def tick(self, time_ns: int) -> bool:
        """Move the clock to `time_ns`, by `clock_step_max_s` at most (the first tick sets it); whether it moved. It never goes back."""
        new = time_ns if self.clock_ns == 0 else min(time_ns, self.clock_ns + nanoseconds(self.parameters.clock_step_max_s))
        if new <= self.clock_ns:
            return False
        self.clock_ns = new
        return True

    def define(self, definition: AnyDefinition) -> Fault | None:
        """Take a definition; None, or why it is refused."""
        if self._is_future(definition.time_ns):
            return Refusal.FUTURE_TIME, self._future(definition.time_ns)
        return self.universe.define(definition)

    def set_parameters(self, message: RiskParameters) -> Fault | None:
        """Put a parameter set in force, or name every fault in it."""
        if self._is_future(message.time_ns):
            return Refusal.FUTURE_TIME, self._future(message.time_ns)
        parsed = parse_parameters(message.parameters)
        if isinstance(parsed, list):
            return Refusal.INVALID_PARAMETERS, "; ".join(parsed)
        self.restore_parameters(message.version, parsed)
        return None

    def restore_parameters(self, version: str, parameters: Parameters) -> None:
        """Parameters as they were in force."""
        self.parameters, self.parameters_version = parameters, version

    def _is_future(self, time_ns: int) -> bool:
        return self.clock_ns > 0 and time_ns > self.clock_ns + nanoseconds(self.parameters.future_skew_s)

    def _future(self, time_ns: int) -> str:
        return f"{time_ns} is more than future_skew_s after the clock {self.clock_ns}"
