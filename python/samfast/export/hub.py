"""push_to_hub: a model with its card, published on the Hugging Face hub."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from samfast.errors import ConfigError, ExportError, RuntimeUnavailableError
from samfast.export.huggingface import export_huggingface
from samfast.models.sam import Sam
from samfast.progress import say
from samfast.train.run import Run

_REPO = re.compile(r"[\w.-]+/[\w.-]+")
_REASONS = {
    401: ("the token is not valid", "make one at {endpoint}/settings/tokens, and `hf auth login`"),
    403: ("the token may not write there", "use a token that may write to {repo}"),
    404: ("there is no such user or organisation", "check the name before the slash"),
}


def push_to_hub(
    model: Run | Sam | str | Path,
    repo: str,
    *,
    checkpoint: str | Path | None = None,
    private: bool = False,
    token: str | None = None,
    message: str = "Upload with samfast",
) -> str:
    """Publish what :func:`export_huggingface` writes: the model, its processor and its card, in one commit.

    The repository is made if it is not there. ``HF_ENDPOINT`` names another hub.

    Args:
        model: a run or its folder; the name of a model; or a loaded model.
        repo: ``"user/name"``.
        checkpoint: of the base model; for a run, the one it was started with by default.
        private: make the repository for its owner alone, if it is made.
        token: that may write there; the one of ``hf auth login`` or ``HF_TOKEN`` by default.
        message: of the commit.

    Returns:
        the address of the repository.

    Raises:
        ConfigError: ``repo`` is no name, there is no token, or there is no such model.
        ExportError: the hub cannot be reached, or refuses.
        RunError, CheckpointError, RuntimeUnavailableError: as :func:`export_huggingface`.
    """
    library = _import_library()
    if not _REPO.fullmatch(repo):
        raise ConfigError(f"{repo!r} is no repository", where="repo", fix="pass user/name")
    token = token or library.get_token()
    if token is None:
        raise ConfigError("there is no token to publish with", where="token", fix="`hf auth login`, or set HF_TOKEN")
    api = library.HfApi(token=token, library_name="samfast")
    with tempfile.TemporaryDirectory() as temporary:
        folder = export_huggingface(model, out=Path(temporary) / repo.partition("/")[2], checkpoint=checkpoint)
        files = [library.CommitOperationAdd(path.name, path) for path in sorted(folder.iterdir())]
        try:
            api.create_repo(repo, private=private, exist_ok=True)
            api.create_commit(repo, files, commit_message=message)
        except Exception as error:  # of whatever the installed version of the library speaks HTTP with
            raise _explained(error, repo, api.endpoint) from error
    address = f"{api.endpoint}/{repo}"
    say(f"published {address}")
    return address


def _explained(error: Exception, repo: str, endpoint: str) -> ExportError:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is None:
        what, fix = f"the hub cannot be reached: {str(error) or type(error).__name__}", "check the connection"
    else:
        said = str(error).strip().splitlines()[-1]
        what, fix = _REASONS.get(status, (f"it answers {status}: {said}", "try again later"))
        what, fix = f"the hub refuses {repo}: {what}", fix.format(endpoint=endpoint, repo=repo)
    return ExportError(what, where=endpoint, fix=f"{fix}, then push again")


def _import_library() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise RuntimeUnavailableError(
            "huggingface_hub is not installed", where="push_to_hub", fix="pip install 'samfast[hf]'"
        ) from None
    return huggingface_hub
