"""The contract has teeth: a layer that breaks one promise is rejected, and the message names the promise."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from support import broken_parts as broken
from support.own_package.parts import Cubic, Scale

from hogpour.layers.base import Layer, Loss
from hogpour.testing.layers import check_layer, check_loss


@pytest.mark.parametrize("layer", [broken.Square(), Scale(), Scale(0.5)])
def test_a_sound_layer_of_another_package_passes(layer: Layer) -> None:
    check_layer(layer, (2, 4, 3))


@pytest.mark.parametrize("loss", [broken.SquaredLoss(), Cubic()])
def test_a_sound_loss_of_another_package_passes(loss: Loss) -> None:
    check_loss(loss)


@pytest.mark.parametrize(
    ("layer", "promise"),
    [
        (broken.WrongGradient(), "difference quotients give"),
        (broken.ForgetsAnOutput(), r"forward left y\[0, 0, 0, 0\] unwritten"),
        (broken.AddsToItsGradient(), r"backward left d_x\[0, 0, 0, 0\] unwritten"),
        (broken.ChangesItsInput(), r"forward changed what is read only: x\["),
        (broken.ChangesTheOutputGradient(), r"backward changed what is read only: d_y\["),
        (broken.DrawsUnannounced(), "random is False, but forward drew from cell.rng"),
        (broken.Allocates(), "a step allocates .* bytes, expected none"),
        (broken.MixesExamples(), "an example sees another one"),
        (broken.Remembers(), "the step before shows in the result"),
        (broken.OwnRandomness(), "a second run with the same seed differs"),
        (broken.ThreadsDiffer(), "2 threads give other bits than one"),
        (broken.HidesNaN(), "NaN in x does not show in y"),
        (broken.DividesByZero(), "y is not finite where x is zero"),
        (broken.ReadsItsNeighbour(), r"y\[.*\] depends on x\[.*\], but reads = Window"),
        (broken.ForgetsToBegin(), "init left part of 'gain' unwritten"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Layer) else "",
)
def test_a_layer_that_breaks_a_promise_is_rejected(layer: Layer, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_layer(layer, (2, 4, 3))


def test_a_layer_that_other_processes_cannot_import_is_rejected() -> None:
    @dataclass(frozen=True, slots=True)
    class Local(broken.Square):
        pass

    with pytest.raises(AssertionError, match=r"a job file cannot say it: .*move it to the top level of a module"):
        check_layer(Local(), (3,))


@pytest.mark.parametrize(
    ("loss", "promise"),
    [
        (broken.GradientOfTheSum(), r"d_scores\[.*difference quotients give"),
        (broken.MeanForSum(), "d_scores|add up to"),
        (broken.CountsValuesAsRight(), "5 counted as right, expected 0 for values"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Loss) else "",
)
def test_a_loss_that_breaks_a_promise_is_rejected(loss: Loss, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_loss(loss)
