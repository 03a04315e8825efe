"""Loading the configuration: where each value comes from, and errors that name the setting, its source and what to write.

A value comes from the first source that has it: the command line, an environment variable (``TUFLINE_SIGNER__KEY_DIR``), a TOML file
(``tufline.toml``, or ``--config``), or the default in ``tufline.config.settings``. ``tufline config`` prints the settings in effect and
their sources.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from tufline.config.settings import ENV_DELIMITER, ENV_PREFIX, Config
from tufline.errors import ConfigError

DEFAULT_FILE: Final = Path("tufline.toml")

OF_A_CHECK: Final = "Value error, "
"""The prefix that pydantic puts before the message of a validator."""


def _env_name(section: str, name: str) -> str:
    return f"{ENV_PREFIX}{section}{ENV_DELIMITER}{name}".upper()


def _all_settings() -> list[tuple[str, str]]:
    sections = {name: info.annotation for name, info in Config.model_fields.items()}
    return [
        (section, name)
        for section, kind in sections.items()
        if isinstance(kind, type) and issubclass(kind, BaseModel)
        for name in kind.model_fields
    ]


def _check_environment() -> None:
    known = {_env_name(section, name) for section, name in _all_settings()}
    for name in os.environ:
        if name.startswith(ENV_PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1)
            advice = f"did you mean {near[0]}?" if near else "tufline config lists all settings"
            raise ConfigError(f"the environment variable {name} does not match any setting: {advice}")


def _read_toml(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None and not DEFAULT_FILE.exists():
        return {}
    try:
        content = tomllib.loads((path or DEFAULT_FILE).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {path or DEFAULT_FILE} can't be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"the configuration {path or DEFAULT_FILE} is not valid TOML: {error}") from error
    for section, settings in content.items():
        if not isinstance(settings, dict):
            raise ConfigError(f"{section} in {path or DEFAULT_FILE} is outside any section: put it into one, such as [ingest]")
    return content


def load(path: Path | None = None, overrides: Mapping[str, Any] = MappingProxyType({})) -> tuple[Config, dict[str, str]]:
    """Load the configuration.

    Args:
        path: a TOML file; None for ``tufline.toml`` in the current directory, if it exists.
        overrides: dotted setting to value, from the command line; None for options that were not used.

    Returns:
        The configuration; and for each dotted setting the source of its value.

    Raises:
        ConfigError: if a file can't be read, a setting does not exist, or a value is not valid.
    """
    _check_environment()
    options: dict[str, dict[str, Any]] = {}
    for dotted, value in overrides.items():
        if value is not None:
            section, _, name = dotted.partition(".")
            options.setdefault(section, {})[name] = value
    return _merge((str(path or DEFAULT_FILE), _read_toml(path)), ("environment", EnvSettingsSource(Config)()), ("command line", options))


def of_environment() -> Config:
    """Load the configuration from the environment and no file, for a library in another program's process.

    Returns:
        The configuration.

    Raises:
        ConfigError: if a value is not valid.
    """
    config, _ = _merge(("environment", EnvSettingsSource(Config)()))
    return config


def _merge(*layers: tuple[str, dict[str, dict[str, Any]]]) -> tuple[Config, dict[str, str]]:
    merged: dict[str, dict[str, Any]] = {}
    sources = {f"{section}.{name}": "default" for section, name in _all_settings()}
    for source, layer in layers:
        for section, settings in layer.items():
            merged.setdefault(section, {}).update(settings)
            for name in settings:
                sources[f"{section}.{name}"] = _env_name(section, name) if source == "environment" else source
    try:
        return Config(**merged), sources  # type: ignore[arg-type]
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem, sources) for problem in error.errors())) from None


def _explain(problem: ErrorDetails, sources: Mapping[str, str]) -> str:
    dotted = ".".join(str(step) for step in problem["loc"][:2])
    source = sources.get(dotted, "the configuration")
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(dotted, [f"{section}.{name}" for section, name in _all_settings()], 1)
        advice = f"did you mean {near[0]}?" if near else "tufline config lists all settings"
        return f"unknown setting {dotted} (from {source}): {advice}"
    # The value of a secret may be secret even if it has a wrong type.
    value = "" if _is_secret(dotted) else f" = {problem['input']!r}"
    return f"{dotted}{value} (from {source}) is not valid: {problem['msg'].removeprefix(OF_A_CHECK)}"


def _is_secret(dotted: str) -> bool:
    section, _, name = dotted.partition(".")
    kind = Config.model_fields[section].annotation if section in Config.model_fields else None
    if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
        return False
    return name in kind.model_fields and kind.model_fields[name].annotation is SecretStr
