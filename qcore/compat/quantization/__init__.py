"""What torch.ao.quantization has beside the names of qcore.api, or with other defaults."""
