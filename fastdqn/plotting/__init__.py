"""Pictures: of one run, of many runs, and of what a policy looks at.

May import runs, learning and below; matplotlib is imported here alone.
Start reading at ``one_run``; ``style`` is what all pictures share.
"""
