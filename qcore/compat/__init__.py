"""Code written for torch.ao.quantization runs on qcore, unchanged but for one line: `qcore.compat.install()`.

    import qcore.compat
    qcore.compat.install()          # before what imports torch.quantization, such as torchvision.models.quantization

or `python -m qcore.compat script.py`, or, around a part of a program, `with qcore.compat.installed(): ...`. Nothing is
changed before that call, and `uninstall()` puts everything back. What is there, and what is not: docs/compat.md.
"""

from __future__ import annotations

from qcore.compat.installation import install, install_if_asked, installed, is_installed, uninstall

__all__ = ["install", "install_if_asked", "installed", "is_installed", "uninstall"]
