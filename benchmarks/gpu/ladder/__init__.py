"""Steps toward the floor of an update on a GPU, to be measured before any of them trains.

``rungs`` names them and ``rung_learner`` makes a learner of one, by the learner's own seams; the
other files are the steps themselves, each with a plain way of doing the same in torch. Nothing of
``fastdqn`` imports this. Checked on a CPU; not run on a GPU.
"""
