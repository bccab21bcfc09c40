"""Choices are found by their file name, and described so that another process finds them again."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

import pytest

import hogpour
from hogpour.algos.optim.adagrad import Adagrad
from hogpour.algos.schedule.back_off import BackOff
from hogpour.algos.schemes.hogwild import Hogwild
from hogpour.core import registry
from hogpour.core.errors import ConfigError
from hogpour.core.job import read_job
from hogpour.layers.base import Layer
from hogpour.layers.linear import Linear
from hogpour.layers.max_pool2d import MaxPool2D


def test_a_file_name_finds_its_class() -> None:
    assert registry.find("layer", "max_pool2d") is MaxPool2D
    assert registry.by_class_name("layer", "MaxPool2D") is MaxPool2D
    assert hogpour.MaxPool2D is MaxPool2D


@pytest.mark.parametrize("kind", registry.FOLDERS)
def test_every_kind_has_choices_and_each_says_what_it_is(kind: str) -> None:
    found = registry.available(kind)
    assert found
    for name, cls in found.items():
        assert cls.kind == kind
        assert cls.__doc__, f"{kind} {name} has no docstring"


def test_layers_and_losses_share_a_folder_but_not_a_kind() -> None:
    assert not set(registry.available("layer")) & set(registry.available("loss"))


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r'^layer "linaer" is not known; did you mean \'linear\'\?$'):
        registry.find("layer", "linaer")


def test_a_name_far_from_all_is_answered_with_the_list() -> None:
    with pytest.raises(ConfigError, match=r'^loss "xyz" is not known; known: hinge, logistic, softmax_xent, squared_error$'):
        registry.find("loss", "xyz")


@pytest.mark.parametrize("name", ["base", "tile", "../linear", "os", "linear.Linear", ""])
def test_only_choices_are_found_not_any_module(name: str) -> None:
    with pytest.raises(ConfigError, match="is not known"):
        registry.find("layer", name)


def test_a_thing_is_described_so_that_it_can_be_built_again() -> None:
    scheme = Hogwild(optimiser=Adagrad(lr=0.05), schedule=BackOff(beta=0.5))
    words = registry.describe(scheme)
    assert words["optimiser"]["name"] == "adagrad"
    assert registry.build("scheme", words, "algorithm") == scheme


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"layer": "linear", "unit": 3}, "at: layer linear has no key 'unit'; did you mean 'units'?"),
        ({"layer": "linear"}, "at: layer linear needs the key 'units'"),
        ({"layer": "linear", "units": "3"}, "at.units = '3': expected int, got str"),
        ({"layer": "linear", "units": 1.5}, "at.units = 1.5: expected int, got float"),
        ({"layer": "linear", "units": 0}, "at: layer linear: units = 0, expected at least 1"),
        ({"units": 3}, "at: the name of the layer is missing, expected {layer = ...}"),
        ({"layer": 3}, "at: the name of the layer is missing, expected {layer = ...}"),
    ],
)
def test_bad_settings_are_named(config: dict[str, object], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        registry.build("layer", config, "at")
    assert str(error.value) == text


def test_an_integer_is_also_a_float_setting() -> None:
    assert registry.build("optimiser", {"name": "sgd", "lr": 1}, "at").lr == 1.0


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("no_such_package:Layer", "cannot import no_such_package"),
        ("hogpour.core.spec:Nothing", "module hogpour.core.spec has no Nothing"),
        ("hogpour.core.spec:Spec", "Spec is not a dataclass of kind 'layer'"),
    ],
)
def test_a_foreign_name_that_is_no_layer_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        registry.find("layer", name)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = = 1", "cannot import broken_layer: SyntaxError: invalid syntax (broken_layer.py, line 1)"),
        ("1 / 0", "cannot import broken_layer: ZeroDivisionError: division by zero"),
    ],
)
def test_a_foreign_module_that_is_broken_is_named(
    source: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only an ImportError was expected of it; a typing error of the user's was a traceback of ours."""
    (tmp_path / "broken_layer.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError) as error:
        registry.build("layer", "broken_layer:Layer", "model.layers[0]")
    assert str(error.value) == f'model.layers[0]: layer "broken_layer:Layer": {text}'


@dataclass(frozen=True)
class Careless(Linear):
    """Raises what no layer should."""

    def __post_init__(self) -> None:
        raise TypeError("units must be even")


def test_what_a_foreign_class_raises_is_told_with_its_type() -> None:
    with pytest.raises(ConfigError) as error:
        registry.build("layer", {"name": f"{__name__}:Careless", "units": 3}, "at")
    assert str(error.value) == f"at: layer {__name__}:Careless: TypeError: units must be even"


def test_a_class_that_no_other_process_can_import_is_refused() -> None:
    @dataclass(frozen=True)
    class Local(Linear):
        pass

    with pytest.raises(ConfigError, match="move it to the top level of a module"):
        registry.describe(Local(3))


def test_one_new_file_is_a_new_choice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "double_relu.py").write_text(
        "from dataclasses import dataclass\n"
        "from hogpour.layers.relu import Relu\n"
        "@dataclass(frozen=True)\n"
        "class DoubleRelu(Relu):\n"
        "    '''Twice.'''\n"
    )
    import hogpour.layers

    monkeypatch.setattr(hogpour.layers, "__path__", [*hogpour.layers.__path__, str(tmp_path)])
    assert "double_relu" in registry.available("layer")
    layer = registry.build("layer", "double_relu", "model.layers[0]")
    assert isinstance(layer, Layer)
    assert registry.describe(layer) == {"name": "double_relu"}


def test_every_public_name_is_there() -> None:
    for name in hogpour.__all__:
        assert getattr(hogpour, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = hogpour.Nothing


TOY = '''"""A toy."""
import importlib
from dataclasses import dataclass
from hogpour.algos.{folder}.{base} import {Base}


@dataclass(frozen=True, slots=True)
class {Toy}({Base}):
    """As {Base}, by another name."""
'''


@pytest.mark.parametrize(
    ("kind", "folder", "base", "parent"),
    [
        ("exchange", "exchange", "gradient", "Gradient"),
        ("gate", "gate", "barrier", "Barrier"),
        ("correction", "correction", "inverse_staleness", "InverseStaleness"),
        ("optimiser", "optim", "sgd", "Sgd"),
    ],
)
def test_a_toy_choice_in_one_new_file_trains_from_a_job_file(
    kind: str, folder: str, base: str, parent: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = f"toy_{kind}"
    text = TOY.format(folder=folder, base=base, Base=parent, Toy=f"Toy{kind.title()}")
    (tmp_path / f"{toy}.py").write_text(text)
    package = importlib.import_module(f"hogpour.algos.{folder}")
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    words = {"optimiser": '{name = "sgd", lr = 0.1}', kind: f'{{name = "{toy}"' + (", lr = 0.1}" if kind == "optimiser" else "}")}
    choices = "\n".join(f"{key} = {value}" for key, value in words.items())
    file = tmp_path / "job.toml"
    file.write_text(f'[data]\ntrain = "digits"\n[model]\nlayers = [{{layer = "linear", units = 10}}]\n'
                    f'[algorithm]\nname = "custom"\n{choices}\n[run]\nepochs = 3\n')  # fmt: skip
    job = read_job(str(file))
    report = hogpour.Simulation(job, hogpour.Scenario(nodes=2)).run()
    assert report.accuracy > 0.7
    assert registry.describe(job.algorithm)[kind]["name"] == toy


def test_dir_names_every_class_and_function_that_is_public() -> None:
    """Completion in a REPL knew "Any" only."""
    names = dir(hogpour)
    assert {"Linear", "Adagrad", "Downpour", "Job", "Node", "read_job", "arrays", "__version__"} <= set(names)
    assert all(getattr(hogpour, name) is not None for name in names)
