"""fastdqn against the trainers and replays that people use today, in one interleaved run.

python -m benchmarks.peers --install     # the peers, into .peers-venv
python -m benchmarks.peers               # every row, then the table
python -m benchmarks.peers --table
"""
