"""Steps toward the floor of an update on a GPU, to be measured before any of them trains.

``rungs`` names them and says what each was predicted to give; ``rung_learner`` makes a learner of
one; the other files are the steps themselves, each with a plain way of doing the same in torch.
Nothing outside the bench imports this. Checked on a CPU; not run on a GPU.
"""
