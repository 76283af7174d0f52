"""Q networks: torsos that make features, heads that make Q values of them.

May import config, system and below.
Start reading at ``q_network``; what oneDNN does on a CPU stands apart, in files named after it.
"""
