"""Operators as custom ops of torch (`torch.ops.qcore`), with fake kernels; `library` registers them."""
