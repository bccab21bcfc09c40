"""Every setting of every class that a job is made of takes numbers of any library, keeps them plain, and refuses the rest."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, replace
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import numpy as np
import pytest

import hogpour as hp
from hogpour.core import registry
from hogpour.core.errors import ConfigError
from hogpour.core.job import ClusterConfig, DataConfig, RunConfig, job_to_dict
from hogpour.layers.linear import Linear

_GIVEN = {int: 3, float: 0.5, bool: True, str: "weight"}
"""For a setting without a default."""


def _examples() -> Iterator[Any]:
    yield from (DataConfig(), RunConfig(), ClusterConfig(), hp.Job(model=hp.Linear(2)))
    for kind in registry.FOLDERS:
        for cls in registry.available(kind).values():
            needed = [f for f in fields(cls) if f.init and f.default is f.default_factory is MISSING]
            hints = get_type_hints(cls)
            yield cls(**{f.name: _GIVEN[hints[f.name]] for f in needed})


def _hints(example: Any) -> dict[str, Any]:
    """Annotations; those of a job's own fields name what only type checkers import."""
    return get_type_hints(RunConfig) | {"base": str} if isinstance(example, hp.Job) else get_type_hints(type(example))


def _settings(*types: type) -> list[Any]:
    """Every setting of these types, with an object that has it."""
    return [
        pytest.param(example, f.name, id=f"{type(example).__name__}.{f.name}")
        for example in _examples()
        for f in fields(example)
        if f.init and _hints(example).get(f.name) in types
    ]


class Indexed:
    """A number of some other library."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


@pytest.mark.parametrize(("example", "name"), _settings(int))
def test_a_whole_number_of_any_library_is_kept_as_an_int(example: Any, name: str) -> None:
    for of in (np.int64, np.uint64, np.array, Indexed):
        kept = replace(example, **{name: of(getattr(example, name))})
        assert kept == example
        assert type(getattr(kept, name)) is int


@pytest.mark.parametrize(("example", "name"), _settings(float))
def test_a_number_of_any_library_is_kept_as_a_float(example: Any, name: str) -> None:
    for of in (np.float64, np.array, Decimal, Fraction):
        kept = replace(example, **{name: of(getattr(example, name))})
        assert kept == example
        assert type(getattr(kept, name)) is float


@pytest.mark.parametrize(("example", "name"), _settings(bool))
def test_a_bool_of_numpy_is_kept_as_a_bool(example: Any, name: str) -> None:
    kept = replace(example, **{name: np.bool_(getattr(example, name))})
    assert type(getattr(kept, name)) is bool


@pytest.mark.robustness
@pytest.mark.parametrize(("example", "name"), _settings(int, float, bool))
def test_what_is_no_number_is_refused_in_one_line_that_names_the_setting(example: Any, name: str) -> None:
    for wrong in ("1", None, [1], np.ones(2), 1j, np.complex64(1), object(), {}, 10**400, np.datetime64("2024-01-01")):
        with pytest.raises(ConfigError) as error:
            replace(example, **{name: wrong})
        text = str(error.value)
        assert name in text or "model" in text
        assert "\n" not in text
        assert len(text) < 250


@pytest.mark.parametrize(("example", "name"), _settings(int))
def test_no_float_and_no_bool_is_a_whole_number(example: Any, name: str) -> None:
    for wrong in (2.0, np.float64(2), 2.5, True, Decimal(2)):
        with pytest.raises(ConfigError, match=r"expected int, got (float|bool)"):
            replace(example, **{name: wrong})


@pytest.mark.parametrize(("example", "name"), _settings(str))
def test_a_text_is_kept_as_a_text_and_nothing_else_is_one(example: Any, name: str) -> None:
    assert type(getattr(replace(example, **{name: np.str_(getattr(example, name))}), name)) is str
    with pytest.raises(ConfigError, match="expected str, got int"):
        replace(example, **{name: 3})


@pytest.mark.parametrize("example", [e for e in _examples() if any("kind" in f.metadata for f in fields(e))], ids=repr)
def test_a_choice_of_another_kind_is_refused_where_it_is_made(example: Any) -> None:
    for f in fields(example):
        if "kind" in f.metadata:
            for wrong in ("sgd", hp.Sgd, 0.1, hp.Relu()):
                with pytest.raises(ConfigError, match=rf"^{f.name}: expected an? {f.metadata['kind']} object, got "):
                    replace(example, **{f.name: wrong})


def test_a_path_is_a_text_where_a_job_has_one() -> None:
    job = hp.Job(data=DataConfig(train=Path("a.csv"), ignore=["b"]), model=hp.Linear(2), save=Path("m"), base=Path("b"))  # type: ignore[arg-type]
    assert (job.data.train, job.data.ignore, job.save, job.base) == ("a.csv", ("b",), "m", "b")  # type: ignore[union-attr]


def test_an_array_in_the_place_of_data_is_answered_in_one_line_with_what_makes_data_of_it() -> None:
    with pytest.raises(ConfigError) as error:
        hp.Job(data=np.zeros((1000, 10)), model=hp.Linear(2))  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert str(error.value).endswith("...; hogpour.arrays(x, y) makes Data of arrays")


def test_a_scenario_refuses_what_is_not_of_its_parts() -> None:
    with pytest.raises(ConfigError, match=r"^compute = 3: expected a Compute$"):
        hp.Scenario(compute=3)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"^death = 3: expected objects of Death$"):
        hp.Scenario(death=3)  # type: ignore[arg-type]
    assert hp.Compute(speeds=np.array([1, 2])).speeds == (1.0, 2.0)  # type: ignore[arg-type]


def test_layers_in_a_list_are_refused_by_sequential() -> None:
    with pytest.raises(ConfigError, match=r"^layer 0: expected a layer object, got \[Linear"):
        hp.Sequential([hp.Linear(2)])


@dataclass(frozen=True)
class OfTheUser(Linear):
    """Checks nothing by itself."""

    extra: float = 0.0

    def __post_init__(self) -> None:
        pass


def test_numbers_of_a_class_that_checks_nothing_travel_as_plain_ones() -> None:
    """They ended in "Encoding objects of type numpy.int64 is unsupported" when replicas were given their orders."""
    job = hp.Job(model=[OfTheUser(np.int64(2), extra=np.float32(0.5))])  # type: ignore[arg-type]
    words = job_to_dict(job)
    assert json.loads(msgspec.json.encode(words))["model"]["layers"][0]["units"] == 2
    assert json.loads(json.dumps(words))["model"]["layers"][0]["extra"] == 0.5


def test_every_setting_is_of_a_type_that_is_checked() -> None:
    """A new type of setting, such as a mapping, needs a check of its own in ``core.limits``."""
    for example in _examples():
        for f in fields(example):
            hint = _hints(example).get(f.name, str)
            parts = get_args(hint) or (hint,)
            known = {int, float, bool, str, type(None), ...}
            assert "kind" in f.metadata or set(parts) <= known or "Literal" in str(hint)
