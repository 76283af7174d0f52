"""The cases of ``fastdqn bench``, a file per group; ``case_list`` names them without torch."""
