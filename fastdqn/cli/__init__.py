"""The ``fastdqn`` command: a file per command, its arguments, what it shows while it works.

May import everything; nothing but ``fastdqn.__main__`` imports it.
Start reading at ``main``.
"""
