"""The machine: devices, compilation and capture, host memory, files, signals, clocks.

May import types and errors alone: nothing here knows what a Q value is.
Start reading at ``compilation``, the one place that compiles or captures.
"""
