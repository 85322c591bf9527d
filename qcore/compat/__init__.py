"""What code and files of torch.ao.quantization need to go on with qcore; deletable as one folder."""
