"""One frozen set of settings for every process: from a TOML file, with `PLIMSOLL_*` variables over it, every fault told at once.

A variable is named by its field, `PLIMSOLL_CUT_INTERVAL_MS`; one of a section by both, `PLIMSOLL_SECURITY__CA_FILE`; lists are separated by
commas. What decides about accounts is not here: risk parameters come in through their topic, so that they are in the log.
`python -m streams.settings FILE...` renews the table of settings in those files; without a file it prints it.
"""

from __future__ import annotations

import os
import re
import ssl
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, ValidationInfo, field_validator

from streams.documents import MadeTable, allowed_values, as_table, as_written, run

ENVIRONMENT_PREFIX = "PLIMSOLL_"
SECTION_SEPARATOR = "__"
# Read by other parts, before there are settings: where jars, kernels and the settings file are, and how kernels are compiled.
OTHER_VARIABLES = frozenset({"PLIMSOLL_SETTINGS", "PLIMSOLL_KAFKA_HOME", "PLIMSOLL_CACHE_DIR", "PLIMSOLL_BOUNDSCHECK", "PLIMSOLL_OPERATOR"})

Port = Annotated[int, Field(ge=0, le=65_535)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]


class SettingsError(ValueError):
    """Everything that is wrong with the settings, one fault a line; never with a value, since it could be a secret."""


class Protocol(StrEnum):
    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"


class Mechanism(StrEnum):
    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True)


class Security(_Section):
    """How clients show who they are, and how they know the broker. Files are in PEM."""

    protocol: Protocol = Field(
        Protocol.PLAINTEXT, description="how brokers are spoken to: encrypted (SSL), with a password (SASL), both, or neither"
    )
    ca_file: Path | None = Field(None, description="who signed the broker's certificate; the system's authorities where not given")
    certificate_file: Path | None = Field(None, description="ours, where the broker asks for one")
    key_file: Path | None = Field(None, description="the key of `certificate_file`, where it is in a file of its own")
    key_password: SecretStr | None = Field(None, description="of an encrypted `key_file`")
    check_hostname: bool = Field(True, description="whether the broker's certificate must be for the name it was reached by")
    mechanism: Mechanism = Field(Mechanism.SCRAM_SHA_512, description="how the password is shown, where the protocol has SASL")
    username: str | None = Field(None, description="needed where the protocol has SASL")
    password: SecretStr | None = Field(None, description="needed where the protocol has SASL, here or in a file")
    password_file: Path | None = Field(None, description="a file with the password and nothing else, instead of `password`")

    @field_validator("ca_file", "certificate_file", "key_file", "password_file")
    @classmethod
    def _is_readable(cls, path: Path | None) -> Path | None:
        if path is not None and not (path.is_file() and os.access(path, os.R_OK)):
            raise ValueError("there is no such file, or it cannot be read")
        return path

    @field_validator("ca_file", "certificate_file", "key_file")
    @classmethod
    def _has_tls(cls, path: Path | None, known: ValidationInfo) -> Path | None:
        if path is not None and known.data.get("protocol") in {Protocol.PLAINTEXT, Protocol.SASL_PLAINTEXT}:
            raise ValueError(f"says nothing to a broker spoken to by {known.data['protocol']}: did you mean SSL or SASL_SSL?")
        return path

    @field_validator("key_file")
    @classmethod
    def _has_certificate(cls, path: Path | None, known: ValidationInfo) -> Path | None:
        if path is not None and known.data.get("certificate_file", path) is None:
            raise ValueError("needs certificate_file")
        return path

    @field_validator("username", "password", "password_file")
    @classmethod
    def _has_sasl(cls, value: Any, known: ValidationInfo) -> Any:
        if value is not None and known.data.get("protocol") in {Protocol.PLAINTEXT, Protocol.SSL}:
            raise ValueError(f"says nothing to a broker spoken to by {known.data['protocol']}: did you mean SASL_SSL?")
        if value is None and known.field_name == "username" and known.data.get("protocol") in {Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL}:
            raise ValueError(f"is needed by {known.data['protocol']}")
        return value

    @field_validator("password_file")
    @classmethod
    def _is_one_password(cls, path: Path | None, known: ValidationInfo) -> Path | None:
        if "password" not in known.data:
            return path  # wrong itself, and said so
        given = known.data["password"] is not None
        if path is not None and given:
            raise ValueError("give password or password_file, not both")
        if path is None and not given and known.data.get("protocol") in {Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL}:
            raise ValueError(f"password or password_file is needed by {known.data['protocol']}")
        return path


class Settings(_Section):
    """All settings; the defaults fit a broker of one's own on this machine."""

    bootstrap: str = Field("127.0.0.1:9092", description="host:port of some brokers, separated by commas")
    security: Security = Field(Security(), description="a section of its own, below")
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,100}$", description="put before the name of every topic, and of groups and transactional ids"
    )
    group: Name = Field("plimsoll", description="name of the workers' consumer group, and what their transactional ids begin with")

    ledger_partitions: int = Field(4, ge=1, le=1024, description="of accounts (P); fixed for the life of a ledger")
    attest_partitions: int = Field(2, ge=1, le=1024, description="of chains and their emitters (E); fixed for the life of a ledger")
    venues: tuple[Name, ...] = Field((), max_length=256, description="those that orders may go to; each has a topic orders.<venue>")
    replication: int = Field(1, ge=1, le=9, description="copies of each partition; 3 in production")
    min_isr: int = Field(1, ge=1, le=9, description="copies that must have a record before it counts; 2 in production")
    compaction_lag_ms: int = Field(3_600_000, ge=0, description="how long rows stay readable after they were overwritten")

    ticker: Literal["wall", "external"] = Field("wall", description="external: somebody else moves the clock, in a replay for instance")
    tick_interval_ms: int = Field(250, ge=10, le=10_000, description="how often the clock moves")
    frame_max_events: int = Field(8_000, ge=1, le=8_000, description="of one source, taken together")
    cut_interval_ms: int = Field(250, ge=10, le=60_000, description="how often each partition's changed state is committed")

    session_timeout_s: float = Field(10.0, ge=1.0, le=300.0, description="a worker that is silent this long loses its partitions")
    heartbeat_s: float = Field(
        2.0, ge=0.1, le=100.0, description="how often a worker tells its group that it lives; at most a third of the session"
    )
    request_timeout_s: float = Field(
        30.0, ge=1.0, le=600.0, description="how long a broker may take to answer, and a record to be acknowledged"
    )
    watchdog_s: float = Field(60.0, ge=1.0, le=3_600.0, description="with lag and no cut for this long, the worker ends itself")

    shadow_accounts: int = Field(
        5, ge=0, le=1_000, description="accounts of each partition that are valued a second time, by plain Python, in a check; 0: none ever"
    )
    shadow_interval_s: float = Field(10.0, ge=0.5, le=3_600.0, description="how often each partition's accounts are checked so")

    listen: str = Field("127.0.0.1", description="address of the pages: metrics, health and the console")
    metrics_port: Port = Field(9_464, description="0 takes a free one")
    console: bool = Field(True, description="whether the pages have the console, which shows every account")
    console_password_file: Path | None = Field(
        None, description="a file with the console's password and nothing else; needed where `listen` is more than this machine"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="of the log on standard error")

    @field_validator("bootstrap")
    @classmethod
    def _names_brokers(cls, text: str) -> str:
        for broker in text.split(","):
            if not re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}", broker):
                raise ValueError("must be host:port, or several of them separated by commas")
        return text

    @field_validator("venues", mode="before")
    @classmethod
    def _splits_list(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("venues")
    @classmethod
    def _are_distinct(cls, venues: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(venues)) != len(venues):
            raise ValueError("names one twice")
        return venues

    @field_validator("min_isr")
    @classmethod
    def _can_be_written(cls, min_isr: int, known: ValidationInfo) -> int:
        if min_isr > known.data.get("replication", min_isr):
            raise ValueError(f"is more than replication {known.data['replication']}: nothing could be written")
        return min_isr

    @field_validator("heartbeat_s")
    @classmethod
    def _beats_in_time(cls, heartbeat_s: float, known: ValidationInfo) -> float:
        if heartbeat_s * 3 > known.data.get("session_timeout_s", heartbeat_s * 3):
            raise ValueError(f"must be at most a third of session_timeout_s {known.data['session_timeout_s']}")
        return heartbeat_s

    @field_validator("watchdog_s")
    @classmethod
    def _leaves_room(cls, watchdog_s: float, known: ValidationInfo) -> float:
        if watchdog_s * 1000 < 4 * known.data.get("cut_interval_ms", 0):
            raise ValueError(f"must leave room for four cuts of {known.data['cut_interval_ms']} ms")
        return watchdog_s

    @field_validator("console_password_file")
    @classmethod
    def _keeps_the_console_to_itself(cls, path: Path | None, known: ValidationInfo) -> Path | None:
        if path is not None:
            if not (path.is_file() and os.access(path, os.R_OK)):
                raise ValueError("there is no such file, or it cannot be read")
            if not path.read_text().strip():
                raise ValueError("the file is empty")
        elif known.data.get("console") and not _is_loopback(known.data.get("listen", "localhost")):
            raise ValueError("is needed: listen is more than this machine, and the console shows every account; or set console = false")
        return path


def load_settings(path: Path | None = None, environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Defaults, then the TOML file (`path`, else `$PLIMSOLL_SETTINGS`), then variables, then `overrides`. Raises SettingsError."""
    environment = os.environ if environment is None else environment
    named = path or (Path(environment["PLIMSOLL_SETTINGS"]) if environment.get("PLIMSOLL_SETTINGS") else None)
    values = _merged(_merged(_read(named), _from_environment(environment)), overrides)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        lines = [f"  {'.'.join(str(part) for part in fault['loc']) or 'settings'}: {_reason(fault['msg'])}" for fault in error.errors()]
        raise SettingsError("The settings cannot be used:\n" + "\n".join(lines)) from None  # the cause would show values


def settings_table() -> str:
    """All settings as a table in Markdown, sections by `section.field`."""
    schema = Settings.model_json_schema()
    rows = [row for name, field in schema["properties"].items() for row in _table_rows(name, field, schema["$defs"])]
    return as_table(["setting", "may be", "default", "what it is"], rows)


def _table_rows(name: str, field: dict[str, Any], definitions: dict[str, Any]) -> list[list[str]]:
    field = {**definitions[field["$ref"].rpartition("/")[2]], **field} if "$ref" in field else field
    if "properties" in field:
        return [row for inner, of_inner in field["properties"].items() for row in _table_rows(f"{name}.{inner}", of_inner, definitions)]
    default = as_written(field["default"])
    return [[f"`{name}`", allowed_values(field), f"`{default}`" if default else "", field.get("description", "")]]


SETTINGS_TABLE = MadeTable("settings", "streams.settings", settings_table)


def tls_context(security: Security) -> ssl.SSLContext | None:
    """None where the protocol has no TLS; raises SettingsError where a certificate or key cannot be used."""
    if security.protocol not in {Protocol.SSL, Protocol.SASL_SSL}:
        return None
    try:
        context = ssl.create_default_context(cafile=security.ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = security.check_hostname
        if security.certificate_file is not None:
            # Never None: with None, OpenSSL would ask at the terminal for the password of an encrypted key.
            key_password = security.key_password.get_secret_value() if security.key_password is not None else ""
            context.load_cert_chain(security.certificate_file, security.key_file, key_password)
    except ssl.SSLError as error:
        raise SettingsError(f"The settings cannot be used:\n  security: a certificate or key is not in order ({error.reason})") from None
    return context


def password(security: Security) -> str | None:
    """The password itself, from wherever the settings say; hand it to a client, never to a log."""
    if security.password_file is not None:
        return security.password_file.read_text().strip()
    return security.password.get_secret_value() if security.password is not None else None


def console_password(settings: Settings) -> str | None:
    """What whoever looks at the console must know; None: nothing."""
    return settings.console_password_file.read_text().strip() if settings.console_password_file is not None else None


def kafka_client_options(settings: Settings) -> dict[str, Any]:
    """What aiokafka's consumers, producers and admin clients all take, to reach the cluster of these settings."""
    options: dict[str, Any] = {"bootstrap_servers": settings.bootstrap.split(","), "security_protocol": settings.security.protocol.value}
    context = tls_context(settings.security)
    if context is not None:
        options["ssl_context"] = context
    if settings.security.username is not None:
        options["sasl_mechanism"] = settings.security.mechanism.value
        options["sasl_plain_username"] = settings.security.username
        options["sasl_plain_password"] = password(settings.security)
    return options


def faust_broker_options(settings: Settings) -> dict[str, Any]:
    """`broker` and, where needed, `broker_credentials` for a Faust app that reaches the same cluster."""
    import faust

    options: dict[str, Any] = {"broker": [f"aiokafka://{broker}" for broker in settings.bootstrap.split(",")]}
    context = tls_context(settings.security)
    if settings.security.username is not None:
        options["broker_credentials"] = faust.SASLCredentials(
            username=settings.security.username,
            password=password(settings.security),
            ssl_context=context,
            mechanism=settings.security.mechanism.value,
        )
    elif context is not None:
        options["broker_credentials"] = faust.SSLCredentials(context)
    return options


def _is_loopback(listen: str) -> bool:
    try:
        return ip_address(listen).is_loopback
    except ValueError:
        return listen == "localhost"


def _read(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise SettingsError(f"The settings file {path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings file {path} is not TOML: {error}.") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, value in sorted(environment.items()):
        if not name.startswith(ENVIRONMENT_PREFIX) or name in OTHER_VARIABLES:
            continue
        section, separator, field = name.removeprefix(ENVIRONMENT_PREFIX).lower().partition(SECTION_SEPARATOR)
        if separator:
            values = _merged(values, {section: {field: value}})
        else:
            values = _merged(values, {section: value})
    return values


def _merged(below: dict[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`, section by section."""
    merged = dict(below)
    for name, value in above.items():
        beneath = merged.get(name)
        merged[name] = _merged(beneath, value) if isinstance(beneath, dict) and isinstance(value, Mapping) else value
    return merged


def _reason(message: str) -> str:
    return message.removeprefix("Value error, ").replace("Extra inputs are not permitted", "there is no such setting")


if __name__ == "__main__":
    run(SETTINGS_TABLE)
