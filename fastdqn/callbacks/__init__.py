"""Who is told of a run while it goes: the events, and loggers that pass them on."""
