"""Who is told of a run while it goes: the events, and the loggers that pass them on.

May import runs, learning and below; the packages of the services are imported where they are used.
Start reading at ``callback``; ``make_loggers`` says which loggers there are.
"""
