# Copyright 2026 The audiolm_hf authors. SPDX-License-Identifier: Apache-2.0
"""Checkpoints as folders: load the pipeline, save a folder that runs without this package, upload it.

`add_code` puts the files of this package that a model needs into its folder, so that it also runs elsewhere with
`trust_remote_code=True`.
"""

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import transformers
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.utils import logging

from audiolm_hf.adapters_audiolm import find_adapter
from audiolm_hf.bundled import DEFAULT_CHECKPOINT, bundled_folder, resolve_checkpoint
from audiolm_hf.checkpoint_audiolm import read_model_type
from audiolm_hf.configuration_audiolm import AudioLMConfig
from audiolm_hf.feature_extraction_audiolm import AudioLMFeatureExtractor
from audiolm_hf.pipeline_audiolm import CUSTOM_PIPELINES, TASK, AudioContinuationPipeline, check_same_rate
from audiolm_hf.processing_audiolm import AudioLMProcessor
from audiolm_hf.registration import PARTS, Part

_PACKAGE = Path(__file__).parent
# Formats that run code when they are loaded; a checkpoint has none.
_UNSAFE_SUFFIXES = {".bin", ".ckpt", ".pickle", ".pkl", ".pt", ".pth"}
_ABSOLUTE_PATH = re.compile(r"(?<![\w.:/~-])((?:/[\w.-]+){2,})")
# All that is ever uploaded, besides the code of this package: what a checkpoint consists of, its card and the card's
# examples. Other files in the folder (training states, keys, recordings) stay there.
_UPLOADED = (
    *("adapter_config.json", "adapter_model.safetensors", "audiolm_adapter.json"),
    *("config.json", "generation_config.json", "processor_config.json", "preprocessor_config.json"),
    *("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    *("README.md", "LICENSE", "samples/*.png", "samples/*.opus", "samples/*.mp3"),
    *("detector/config.json", "detector/model.safetensors", "detector/preprocessor_config.json"),
)
logger = logging.get_logger(__name__)


def pipeline(model: str | os.PathLike | PreTrainedModel | None = None, **kwargs: Any) -> AudioContinuationPipeline:
    """Return the pipeline that continues audio, always with the installed code.

    `transformers.pipeline` requires `trust_remote_code=True` for a checkpoint that contains code.

    Args:
        model (`str`, `os.PathLike` or [`AudioLMModel`], *optional*): short name of a bundled checkpoint, folder (of a
            checkpoint or of an adapter), `user/name` on the Hub, or a model with `processor=`. Defaults to the bundled
            `"speech-tiny"`.
        kwargs: as in `transformers.pipeline`, and any option of [`AudioContinuationPipeline`].
    """
    if model is None:
        model = bundled_folder(DEFAULT_CHECKPOINT)
    if isinstance(model, str | os.PathLike):
        model = resolve_checkpoint(model)
        options = {name: kwargs[name] for name in ("revision", "token") if name in kwargs}
        is_adapter, is_folder = find_adapter(model, **options), Path(model).is_dir()
        if is_adapter and not is_folder:
            model = snapshot_download(model, **options)  # from there on, its base may also be a bundled checkpoint
        elif is_folder and not is_adapter:
            AudioLMConfig.get_config_dict(model)  # refuses other models
            files = [Path(model) / f"{name}_config.json" for name in ("processor", "preprocessor")]
            given = kwargs.get("processor") or kwargs.get("feature_extractor")
            if not given and not any(file.is_file() for file in files):
                raise ValueError(f"{model} has no processor_config.json; call processor.save_pretrained({model!r}).")
    return transformers.pipeline(TASK, model=model, pipeline_class=AudioContinuationPipeline, **kwargs)


def export_checkpoint(
    model: PreTrainedModel, processor: AudioLMProcessor | None, folder: str | os.PathLike, *, with_code: bool = True
) -> Path:
    """Save a model, or one part of it, to a folder.

    Args:
        model ([`AudioLMModel`], a stage, the codec or the semantic tokenizer): what to save, as safetensors.
        processor ([`AudioLMProcessor`], *optional*): of the whole model. Without one, a model that takes audio is
            saved with a feature extractor of its rate.
        folder (`str` or `os.PathLike`): created if it does not exist.
        with_code (`bool`, defaults to `True`): make it run without this package, see [`add_code`].

    Raises:
        ValueError: if processor and model work at different sampling rates.
    """
    folder = Path(folder)
    if processor is not None:
        check_same_rate(model, processor)
    model.save_pretrained(folder)
    if processor is not None:
        processor.save_pretrained(folder)
    elif _part_of(folder).reads_audio:
        AudioLMFeatureExtractor(sampling_rate=model.config.sampling_rate).save_pretrained(folder)
    if with_code:
        add_code(folder)
    return folder


def add_code(folder: str | os.PathLike) -> None:
    """Copy the code that a checkpoint needs into its folder, for `trust_remote_code=True`."""
    folder = Path(folder)
    part = _part_of(folder)
    model = _reference(part.model_class)
    # Which class each Auto class loads; see `StrictConfig.to_dict` on the configuration's.
    references = {"AutoConfig": f"{model.partition('.')[0]}.{part.config_class.__name__}"}
    references |= {auto_model.__name__: model for auto_model in part.auto_models}
    config: dict[str, Any] = {"auto_map": references}
    own = {"AutoFeatureExtractor": _reference(AudioLMFeatureExtractor)}
    if (folder / "processor_config.json").is_file():
        own["AutoProcessor"] = _reference(AudioLMProcessor)
        config["custom_pipelines"] = CUSTOM_PIPELINES
        _update_json(folder / "processor_config.json", {"auto_map": own, "feature_extractor": {"auto_map": own}})
        references = references | own
    elif (folder / "preprocessor_config.json").is_file():
        _update_json(folder / "preprocessor_config.json", {"auto_map": own})
        references = references | own
    _update_json(folder / "config.json", config)
    for module in {reference.partition(".")[0] for reference in references.values()}:
        file = _PACKAGE / f"{module}.py"
        for needed in [file, *get_relative_import_files(file)]:
            shutil.copyfile(needed, folder / Path(needed).name)


def push_checkpoint(
    folder: str | os.PathLike,
    repo_id: str,
    *,
    private: bool | None = True,
    revision: str | None = None,
    commit_message: str | None = None,
    with_code: bool = True,
    token: str | None = None,
) -> str:
    """Upload a checkpoint to the Hub; its folder is not changed.

    Only configurations, safetensors, code of this package, `README.md`, `LICENSE` and the pictures and audio in
    `samples` are uploaded; [`list_upload`] returns them. If interrupted, the same call sends only what is missing.

    Args:
        folder (`str` or `os.PathLike`): written by `save_pretrained` or [`export_checkpoint`].
        repo_id (`str`): `user/name`; created if it does not exist.
        private (`bool`, *optional*, defaults to `True`): whether a new repository is private.
        revision (`str`, *optional*): branch, created if it does not exist; defaults to `main`.
        commit_message (`str`, *optional*): defaults to `"Upload <folder's name>"`.
        with_code (`bool`, defaults to `True`): upload the code with it, see [`add_code`].
        token (`str`, *optional*): of the Hub; by default that of `hf auth login`.

    Returns:
        `str`: address of the commit.

    Raises:
        FileNotFoundError: if the folder has no `config.json`.
        PermissionError: if the Hub refuses the token, or the token may not write there.
        ValueError: if the folder is not a checkpoint of this package or holds weights in a format that runs code when
            loaded, a file to upload is a link or names a path of this machine, or an adapter's base is a local folder.
    """
    if private not in (True, False, None):
        raise ValueError(f"private is {private!r}; give True or False.")
    api, folder = HfApi(token=token), Path(folder)
    with _uploaded_copy(folder, with_code) as copy:
        try:
            repo_id = api.create_repo(repo_id, private=private is not False, exist_ok=True).repo_id
            if revision is not None and not revision.startswith("refs/"):
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                folder_path=copy,
                repo_id=repo_id,
                revision=revision,
                commit_message=commit_message or f"Upload {folder.resolve().name}",
            )
        except HfHubHTTPError as error:
            if error.response.status_code not in (401, 403):
                raise
            raise PermissionError(
                f"The Hub refuses the upload to {repo_id} ({error.server_message}); log in with `hf auth login` and a "
                "token that may write there."
            ) from error
        except RuntimeError as error:
            raise OSError(f"The upload to {repo_id} was interrupted: {error} Run it again to resume it.") from error
    return str(commit)


def list_upload(folder: str | os.PathLike, *, with_code: bool = True) -> dict[str, int]:
    """Return the files that [`push_checkpoint`] would upload, with their sizes in bytes, without asking the Hub."""
    with _uploaded_copy(Path(folder), with_code) as copy:
        return {path.relative_to(copy).as_posix(): path.stat().st_size for path in _files_of(copy)}


@contextmanager
def _uploaded_copy(folder: Path, with_code: bool) -> Iterator[Path]:
    """Check a checkpoint, and yield a temporary copy of those of its files that may be uploaded."""
    _part_of(folder)
    _check_adapter(folder)
    unsafe = sorted(path.name for path in folder.rglob("*") if path.suffix.lower() in _UNSAFE_SUFFIXES)
    if unsafe:
        raise ValueError(f"{folder} holds {', '.join(unsafe)}; save weights as safetensors, and remove these files.")
    with tempfile.TemporaryDirectory() as temporary:
        copy = Path(temporary) / "checkpoint"
        _copy_checkpoint(folder, copy)
        if with_code:
            add_code(copy)
        _check_paths(folder, copy)
        yield copy


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _check_paths(folder: Path, copy: Path) -> None:
    """Check that cards and configurations name no absolute path of this machine."""
    for path in _files_of(copy):
        found = _ABSOLUTE_PATH.findall(path.read_text(encoding="utf-8")) if path.suffix in (".json", ".md") else []
        for name in found:
            if Path("/", name.split("/")[1]).exists():
                where = folder / path.relative_to(copy)
                raise ValueError(f"{where} names {name}, a path of this machine; remove it before the upload.")


def _check_adapter(folder: Path) -> None:
    """Check that the base of an adapter can be found from other machines."""
    adapter = find_adapter(folder)
    base = json.loads(Path(adapter).read_text(encoding="utf-8"))["base_model_name_or_path"] if adapter else None
    if adapter and (not base or base.startswith((".", "/"))):
        raise ValueError(
            f"The base of the adapter {folder} is {base!r}, which is not found from the Hub; upload that, too, and "
            "write its user/name into adapter_config.json as base_model_name_or_path."
        )


def _copy_checkpoint(folder: Path, copy: Path) -> None:
    """Copy the files of a checkpoint that may be uploaded, and warn about the others."""
    code = {path.name for path in _PACKAGE.glob("*_audiolm.py")}
    left_out = []
    for path in sorted([*folder.iterdir(), *folder.glob("samples/*"), *folder.glob("detector/*")]):
        name = path.relative_to(folder).as_posix()
        if name not in code and not any(fnmatch(name, pattern) for pattern in _UPLOADED):
            left_out += [] if name in ("samples", "detector") else [name]
            continue
        if any(part.is_symlink() for part in (path, path.parent) if part != folder):
            raise ValueError(f"{path} is a link; put the file itself into the folder (cp -rL copies them).")
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy / name)
    if left_out:
        logger.warning(f"Not uploaded, as no part of a checkpoint: {', '.join(left_out)}.")


def _part_of(folder: Path) -> Part:
    """Return what kind of checkpoint a folder holds."""
    model_type = read_model_type(folder)
    parts = {part.config_class.model_type: part for part in PARTS}
    if model_type not in parts:
        raise ValueError(f"{folder} holds a {model_type!r} checkpoint; this package has {sorted(parts)}.")
    return parts[model_type]


def _reference(own_class: type) -> str:
    """Return the name of a class in a repository on the Hub: `module.Class`."""
    return f"{own_class.__module__.rpartition('.')[2]}.{own_class.__name__}"


def _update_json(path: Path, entries: dict[str, dict[str, Any]]) -> None:
    """Set entries of a JSON file; of an entry that is an object, only those given."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for key, value in entries.items():
        content[key] = content.get(key, {}) | value
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")
