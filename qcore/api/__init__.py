"""What users call; the observers, fake-quantizers and qconfigs are in modules of their own."""
