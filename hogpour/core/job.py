"""The job: what to train on what, how, and where the model goes. From a TOML file or from Python, checked either way.

Every field says its unit, range and why that default. Errors name the key, the value and what was expected, and the
nearest known key. Knows no data and starts nothing; layers, losses and schemes are found through the registry.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

from hogpour.core import registry
from hogpour.core.errors import ConfigError
from hogpour.core.limits import TINY, AboveZero, Checked, Count, Natural, Range, check_ranges
from hogpour.core.node_id import MOST_MEMBERS
from hogpour.core.shard_map import LARGEST_SHARD_BYTES, SHARD_BYTES
from hogpour.core.text import encodable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    from hogpour.algos.schemes.base import Scheme
    from hogpour.data.dataset import Data
    from hogpour.layers.base import Layer, Loss

    _T = TypeVar("_T", bound=DataclassInstance)

__all__ = ["ClusterConfig", "DataConfig", "Job", "RunConfig", "check_job", "check_keys", "default_job",
           "job_from", "job_to_dict", "key_of", "read_job", "read_tables", "section", "table"]  # fmt: skip

MOST_VALIDATION = 0.9
"""Of the training examples may be held back: what is left must be worth training on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig(Checked):
    """``[data]``: where examples come from and how they are scaled."""

    train: str = "digits"
    """Path of the training file, relative to the job file; or "digits", 1,797 images that come with scikit-learn."""
    test: str = ""
    """Path of the test file; without one, ``validation`` of the training examples are held back."""
    format: str = ""
    """npz, npy, idx, svmlight, csv, vw, libffm or fasttext; empty: by the file's suffix."""
    scale: Literal["none", "unit", "standard"] = "none"
    """none; unit: each feature to 0..1; standard: each to mean 0 and variance 1. Measured on the training set."""
    label: str = ""
    """csv: name of the label column; empty: the last one that is not ignored."""
    ignore: tuple[str, ...] = ()
    """csv: columns that are neither feature nor label."""
    header: bool | None = None
    """csv: whether the first line names the columns, which without it are called "1", "2" ...; unset: it does, and is
    refused where it looks like an example."""
    separator: Literal[",", ";", "\t", "|", " "] = ","
    """csv: what stands between two cells; "\\t" is a tab."""
    validation: Annotated[float, Range(0, MOST_VALIDATION)] = 0.1
    """Fraction of the training examples held back when there is no test file; 0: evaluate on none."""
    n_features: Natural = 0
    """svmlight: number of features; 0: the highest index of the training file."""
    first_index: Annotated[int | None, Range(0, 1)] = None
    """svmlight: index of the first feature, 0 or 1; unset: 0 where the training file has an index 0."""
    hash_bits: Annotated[int, Range(1, 30)] = 18
    """vw, libffm, fasttext: features are hashed into 2 to the power of this; the more, the fewer share a number."""
    word_ngrams: Annotated[int, Range(1, 5)] = 1
    """fasttext: so many words that follow each other are a feature as well, and all fewer."""

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if not self.train:
            raise ConfigError('train is empty, expected a path or "digits"')


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig(Checked):
    """``[run]``: how long, with what, and where the result goes."""

    epochs: Count = 10
    """Passes over the training examples."""
    batch: Count = 32
    """Examples per gradient."""
    replicas: Annotated[int, Range(0, words="0 (all cores) or more")] = 0
    """Replica processes; 0: one for each core (``sync_sgd``: one)."""
    seed: Annotated[int, Range(0, 2**63 - 1, "0 to 2^63 - 1")] = 0
    """Seed of everything random. With one replica, and as many kernel threads, a run is reproduced bit for bit."""
    save: str = field(default="model.safetensors", metadata={"key": "model"})
    """Path of the model file, relative to the current folder; empty: none is written."""
    save_every_s: Annotated[float, Range(TINY, words="above 0")] = 60.0
    """Seconds between two writings of the model file while training goes on: what a power cut may cost."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterConfig(Checked):
    """``[cluster]``: when a silent machine is given up, how parameters are cut, who must be there at the beginning. The
    first node's hold for all."""

    lease_s: Annotated[float, Range(0.1, 3600)] = 3.0
    """Seconds without a heartbeat after which a node is declared dead; its blocks go to others."""
    give_up_s: float = 7.0
    """Seconds without an answer of the first node, or of a shard, or without a byte of one that is on its way, after
    which a node ends; at least ``lease_s``, so that a node which was out of reach for a while comes back."""
    stall_s: Annotated[float, Range(0.1, 86400)] = 10.0
    """Seconds after which others go on without a replica that does nothing, though its node is heard from: a gate waits
    for it no longer until it moves, and at the end its blocks are given to others too. Ten times what is usual, for a
    block three times, where that is longer."""
    connect_s: Annotated[float, Range(1, 3600)] = 1.0
    """Seconds that a round trip may take while a connection is made, which takes three. More is for slow links, where
    ``lease_s`` and ``give_up_s`` want more too; a node that joins over one is told so by ``--join-s``."""
    shard_bytes: Annotated[int, Range(64, LARGEST_SHARD_BYTES)] = SHARD_BYTES
    """Largest shard. One of 4 MB is applied while the next is still arriving."""
    wait_for: Annotated[int, Range(1, MOST_MEMBERS)] = 1
    """Nodes, the first one included, that must be ready before anybody trains; who comes later is welcome. For schemes
    that average over the nodes, whose rate is one for the mean of so many."""
    wait_for_s: AboveZero = 600.0
    """Seconds that the first node waits for them; then the run fails."""

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if not self.lease_s <= self.give_up_s <= 86400:
            raise ConfigError(f"give_up_s = {self.give_up_s}, expected lease_s = {self.lease_s} to 86400")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job(RunConfig):
    """A whole job as objects: the result of a job file, and what the embedded API takes.

    ``data`` is a ``DataConfig``, the path alone, or an already loaded ``Data``; None for a model that only
    predicts. ``model`` is a ``Sequential``, a sequence of layers or one layer; ``loss`` and ``algorithm`` are objects
    or their names.

    Raises:
        ConfigError: something is of another kind or out of range.
    """

    data: DataConfig | Data | None = field(default_factory=DataConfig)
    model: tuple[Layer, ...]
    loss: Loss = "softmax_xent"  # type: ignore[assignment]  # until __post_init__, as the next
    algorithm: Scheme = "hogwild"  # type: ignore[assignment]
    input: tuple[int, ...] = ()
    """Shape of one example, such as (1, 28, 28); empty: as in the data. For flat files that hold images."""
    save: str = field(default="", metadata={"key": "model"})
    """Path of the model file; empty: none is written."""
    base: str = ""
    """Folder that the data paths are relative to; empty: the current one."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    """Of use where the algorithm is one for several machines."""

    def __post_init__(self) -> None:
        self._normalise()
        if not self.model:
            raise ConfigError("model.layers is empty, expected at least one layer")
        for k, layer in enumerate(self.model):
            registry.check_kind(layer, "layer", f"model.layers[{k}]")
        registry.check_kind(self.loss, "loss", "loss")
        registry.check_kind(self.algorithm, "scheme", "algorithm")
        if min(self.input, default=1) < 1:
            raise ConfigError(f"model.input = {self.input}, expected numbers of at least 1")
        try:
            check_ranges(self, RunConfig)
        except ValueError as error:
            raise ConfigError(f"run: {error}") from None

    def _normalise(self) -> None:
        """Make of the short forms what they stand for, and check the plain types."""
        if isinstance(self.data, str | Path):
            self._set(data=DataConfig(train=str(self.data)))
        if not (self.data is None or isinstance(self.data, DataConfig) or getattr(self.data, "kind", None) == "data"):
            arrays = "; hogpour.arrays(x, y) makes Data of arrays" if hasattr(self.data, "__array__") else ""
            raise ConfigError(
                f"data: expected a DataConfig, a path or loaded Data, got {registry.shown(self.data)}{arrays}"
            )
        layers = getattr(self.model, "layers", self.model)
        if getattr(layers, "kind", None) == "layer":
            layers = (layers,)
        if not isinstance(layers, Iterable):
            raise ConfigError(f"model: expected layers, got {registry.shown(layers)}")
        self._set(model=tuple(layers))
        for name, kind in (("loss", "loss"), ("algorithm", "scheme")):
            if isinstance(getattr(self, name), str):
                self._set(**{name: registry.build(kind, getattr(self, name), name)})
        if not isinstance(self.cluster, ClusterConfig):
            raise ConfigError(f"cluster: expected a ClusterConfig, got {registry.shown(self.cluster)}")
        hints = get_type_hints(RunConfig)
        for f in fields(RunConfig):
            self._set(**{f.name: registry.typed(getattr(self, f.name), hints[f.name], f"run.{key_of(f)}")})
        self._set(input=registry.typed(self.input, tuple[int, ...], "model.input"))
        self._set(base=registry.typed(self.base, str, "base"))

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


def default_job(federated: bool = False) -> Job:
    """Return the job of ``node`` without a job file: digits with a small network, on all cores.

    Args:
        federated: other machines may join.
    """
    algorithm = {"name": "downpour", "n_push": 4, "n_fetch": 4} if federated else {"name": "hogwild"}
    return job_from(
        {
            "data": {"train": "digits"},
            "model": {
                "layers": [{"layer": "linear", "units": 128}, {"layer": "relu"}, {"layer": "linear", "units": 10}],
                "loss": "softmax_xent",
            },
            "algorithm": algorithm | {"optimiser": {"name": "sgd", "lr": 0.1}},
            "run": {"epochs": 300, "batch": 16},
        },
        "default job",
    )


def read_job(path: str) -> Job:
    """Read a job file.

    Raises:
        ConfigError: missing, not TOML, or anything in it is wrong; the message begins with the path.
    """
    job = job_from(read_tables(path, "job file"), path)
    return replace(job, base=str(Path(path).parent))


def read_tables(path: str, what: str) -> dict[str, Any]:
    """Read a TOML file.

    Args:
        what: kind of file, for the error message.

    Raises:
        ConfigError: missing, or not TOML; the message begins with the path.
    """
    if path == "":  # as of a variable that is not set
        raise ConfigError(f"{what}: the path is empty")
    try:
        return tomllib.loads(Path(registry.typed(path, str, what)).read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such {what}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError(f"{path}: not TOML that can be read: its values are nested too deeply") from None
    except (OSError, ValueError) as error:  # also a path with a NUL, and text that is not UTF-8
        raise ConfigError(f"{registry.shown(path)[1:-1]}: cannot be read: {error}") from None


def job_from(tables: Mapping[str, Any], source: str, modules: registry.Modules = None) -> Job:
    """Make a job from the tables of a job file.

    Args:
        source: begins every error message.
        modules: that may be imported for a layer, loss or scheme of somebody's own; see ``registry.find``.
    """
    try:
        check_keys(tables, ("data", "model", "algorithm", "run", "cluster"), "", "table")
        data = section(DataConfig, tables, "data")
        replicas = table(tables, "run").get("replicas")
        if isinstance(replicas, int) and replicas < 1:
            raise ConfigError(f"run.replicas = {replicas}, expected at least 1, or no such key for all cores")
        run = section(RunConfig, tables, "run")
        cluster = section(ClusterConfig, tables, "cluster")
        model = table(tables, "model")
        check_keys(model, ("layers", "loss", "input"), "model.", "key")
        layers = registry.typed(model.get("layers", []), list[dict[str, Any]], "model.layers")
        algorithm = dict(table(tables, "algorithm"))
        if not algorithm.keys() & {"name", "scheme"}:
            algorithm["name"] = "hogwild"
        return Job(
            data=data,
            model=tuple(
                registry.build("layer", layer, f"model.layers[{k}]", modules) for k, layer in enumerate(layers)
            ),
            loss=registry.build("loss", model.get("loss", "softmax_xent"), "model.loss", modules),
            algorithm=registry.build("scheme", algorithm, "algorithm", modules),
            input=registry.typed(model.get("input", []), tuple[int, ...], "model.input"),
            cluster=cluster,
            **asdict(run),
        )
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def check_job(job: object, whose: str) -> None:
    """Raise ConfigError where somebody is given something else than a job, such as the path of one."""
    if not isinstance(job, Job):
        raise ConfigError(f"{whose} takes a Job, got {registry.shown(job)}; hogpour.read_job makes one of a file")


def job_to_dict(job: Job) -> dict[str, Any]:
    """Return a job as the tables from which ``job_from`` makes an equal one; for replicas and model files.

    Data that were given loaded cannot be named: their table is empty.
    """
    run = {key_of(f): encodable(getattr(job, f.name)) for f in fields(RunConfig)}
    if replicas := run.pop("replicas"):  # a job file does not say 0
        run["replicas"] = replicas
    return {
        "data": {key: encodable(v) for key, v in asdict(job.data).items()} if isinstance(job.data, DataConfig) else {},
        "model": {
            "layers": [registry.describe(layer) for layer in job.model],
            "loss": registry.describe(job.loss),
            "input": list(job.input),
        },
        "algorithm": registry.describe(job.algorithm),
        "run": run,
        "cluster": asdict(job.cluster),
    }


def table(tables: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return the table of a name, empty where there is none."""
    found = tables.get(name, {})
    if not isinstance(found, Mapping):
        raise ConfigError(f"{name}: expected a table [{name}], got {registry.shown(found)}")
    return found


def key_of(f: Field[Any]) -> str:
    """Return what a field is called in files."""
    return str(f.metadata.get("key", f.name))


def section(cls: type[_T], tables: Mapping[str, Any], name: str) -> _T:
    """Make a dataclass of the table of a name, checked; ConfigErrors begin with the name."""
    given, hints = table(tables, name), get_type_hints(cls)
    known = {key_of(f): f for f in fields(cls)}
    check_keys(given, known, f"{name}.", "key")
    missing = [key for key, f in known.items() if f.default is f.default_factory is MISSING and key not in given]
    if missing:
        raise ConfigError(f"{name}.{missing[0]} is missing")
    values = {
        known[key].name: registry.typed(value, hints[known[key].name], f"{name}.{key}") for key, value in given.items()
    }
    try:
        return cls(**values)
    except ValueError as error:
        raise ConfigError(f"{name}.{error}") from None


def check_keys(given: Mapping[str, Any], known: Collection[str], at: str, what: str) -> None:
    """Refuse keys that are not known, with the nearest that is."""
    for key in given:
        if key not in known:
            raise ConfigError(f"{at}{registry.named(key)}: no such {what}{registry.nearest(key, known)}")
