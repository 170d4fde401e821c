"""``torch.compile``, which may be refused: without a C++ compiler, or by an operation it does not know."""

from __future__ import annotations


def why_refused(error: RuntimeError) -> str | None:
    """The reason if an error means that something cannot be compiled here, or None: it is an error of its own."""
    if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
        return None
    return (str(error).strip() or type(error).__name__).splitlines()[0]
