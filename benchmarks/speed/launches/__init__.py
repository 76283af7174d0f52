"""How many kernels the CUDA path launches, found without a GPU.

The real code runs on fake CUDA tensors: a driver of straw says that an H100 is there, shapes and
devices are propagated, no memory is allocated and nothing is computed. What the code compiles goes
through Inductor and Triton down to the cubin; the code they generate then runs on the fakes, too.
It needs a CUDA build of torch, for only that knows the operators.
"""
