"""Everything that touches the bus: messages, frames, machine, agents, command line."""
