"""Classes of torch.ao.nn.quantized that qcore.nn.quantized does without."""
