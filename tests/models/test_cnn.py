"""Both models are the published ones: sizes, names, initialization; and both say clearly what they do not take."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.export import Dim

from ecgkan.models.cnn import ECGCNN, BeatClassifier, ConvBlock, ECGEncoder
from ecgkan.models.cnn_kan import ECGCNNWithKAN

MODELS = [ECGCNN, ECGCNNWithKAN]
both_models = pytest.mark.parametrize("model_class", MODELS)


def batch_norm(name: str, channels: int) -> dict[str, list[int]]:
    state: dict[str, list[int]] = {f"{name}.{part}": [channels] for part in ("weight", "bias", "running_mean")}
    return {**state, f"{name}.running_var": [channels], f"{name}.num_batches_tracked": []}


def published_encoder() -> dict[str, list[int]]:
    state = {}
    layers = [(1, 32, 7), (32, 64, 5), (64, 128, 3), (128, 256, 3)]
    for i, (channels_in, channels_out, kernel) in enumerate(layers):
        state[f"encoder.{i}.block.0.weight"] = [channels_out, channels_in, kernel]
        state |= batch_norm(f"encoder.{i}.block.1", channels_out)
    return state


def published_mlp(num_classes: int) -> dict[str, list[int]]:
    return {
        "classifier.0.weight": [128, 256],
        **batch_norm("classifier.1", 128),
        "classifier.4.weight": [64, 128],
        **batch_norm("classifier.5", 64),
        "classifier.8.weight": [num_classes, 64],
        "classifier.8.bias": [num_classes],
    }


def published_kan(num_classes: int) -> dict[str, list[int]]:
    state = {}
    for name, n_in, n_out in (("kan1", 256, 64), ("kan2", 64, num_classes)):
        state[f"kan_head.{name}.grid"] = [n_in, 12]
        state[f"kan_head.{name}.spline_weight"] = [n_out, n_in, 8]
        state[f"kan_head.{name}.base_weight"] = [n_out, n_in]
        state[f"kan_head.{name}.layer_norm.weight"] = [n_in]
        state[f"kan_head.{name}.layer_norm.bias"] = [n_in]
    return state


def count_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


# --- the published models --------------------------------------------------------------------------------------------


def test_parameter_counts() -> None:
    assert count_parameters(ECGCNN(num_classes=5)) == 175_973
    assert count_parameters(ECGCNNWithKAN(num_classes=5)) == 285_280
    assert count_parameters(ECGEncoder()) == 134_304


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize(("model_class", "head"), [(ECGCNN, published_mlp), (ECGCNNWithKAN, published_kan)])
def test_state_dict_has_the_published_names_and_shapes(
    model_class: type[BeatClassifier], head: Callable[[int], dict[str, list[int]]], num_classes: int
) -> None:
    state = model_class(num_classes=num_classes).state_dict()
    expected = {**published_encoder(), **head(num_classes)}
    assert {name: list(tensor.shape) for name, tensor in state.items()} == expected


@pytest.mark.parametrize("grid_range", [(-1.0, 1.0), (-3.0, 3.0)])
def test_grid_range_reaches_both_layers(grid_range: tuple[float, float]) -> None:
    state = ECGCNNWithKAN(grid_range=grid_range).state_dict()
    for name in ("kan_head.kan1.grid", "kan_head.kan2.grid"):
        assert (float(state[name][0, 3]), float(state[name][-1, -4])) == grid_range


def test_dropout_is_as_published() -> None:
    def probabilities(model: nn.Module) -> list[float]:
        return [module.p for module in model.modules() if isinstance(module, nn.Dropout)]

    assert probabilities(ECGCNN()) == [0.15, 0.15, 0.3, 0.3, 0.3, 0.15]
    assert probabilities(ECGCNNWithKAN()) == [0.15, 0.15, 0.3, 0.3, 0.3]


@both_models
def test_only_the_last_linear_has_a_bias(model_class: type[ECGCNN]) -> None:
    biased = [
        name
        for name, module in model_class().named_modules()
        if isinstance(module, (nn.Conv1d, nn.Linear)) and module.bias is not None
    ]
    assert biased == (["classifier.8"] if model_class is ECGCNN else [])


# --- initialization --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [ECGCNN(), ECGCNNWithKAN(grid_range=(-1.0, 1.0), init="reference")])
def test_reference_initialization(model: BeatClassifier) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv1d):
            std = math.sqrt(2.0 / (module.out_channels * module.kernel_size[0]))  # Kaiming normal, fan-out
            assert float(module.weight.detach().std()) == pytest.approx(std, rel=0.2)
            assert float(module.weight.detach().mean()) == pytest.approx(0.0, abs=0.2 * std)
        elif isinstance(module, nn.Linear):
            bound = math.sqrt(6.0 / (module.in_features + module.out_features))  # Xavier uniform
            assert 0.95 * bound < float(module.weight.detach().abs().max()) <= bound
            assert module.bias is None or not module.bias.detach().any()
        elif isinstance(module, nn.BatchNorm1d):
            assert torch.equal(module.weight, torch.ones_like(module.weight))


def test_reference_initialization_of_the_kan_head() -> None:
    head = ECGCNNWithKAN(grid_range=(-1.0, 1.0), init="reference").kan_head
    for layer in (head.kan1, head.kan2):
        assert torch.equal(layer.base_weight, torch.ones_like(layer.base_weight))
        assert float(layer.spline_weight.detach().std()) == pytest.approx(0.1, rel=0.1)
        torch.testing.assert_close(layer.grid[0], torch.arange(-3, 9) * 0.4 - 1.0)


@both_models
def test_one_seed_gives_one_model(model_class: type[ECGCNN]) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(5)
        states.append(model_class().state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


# --- forward ---------------------------------------------------------------------------------------------------------


@both_models
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_shapes(model_class: type[ECGCNN], batch: int) -> None:
    model = model_class(num_classes=4).eval()
    x = torch.randn(batch, 1, 256)
    features = model.get_features(x)
    assert features.shape == (batch, 256)
    assert model(x).shape == (batch, 4)
    assert torch.equal(model(x), model.forward_head(features))
    assert ConvBlock(1, 3, 5, 0.1)(x).shape == (batch, 3, 128)


@both_models
def test_features_are_the_mean_over_time_of_the_encoder(model_class: type[ECGCNN]) -> None:
    model = model_class().eval()
    x = torch.randn(3, 1, 256)
    encoded = model.encoder(x)
    assert encoded.shape == (3, 256, 16)
    torch.testing.assert_close(model.get_features(x), encoded.sum(-1) / 16)


@both_models
def test_beats_do_not_see_each_other_when_classifying(model_class: type[ECGCNN]) -> None:
    model = model_class().eval()
    x = torch.randn(4, 1, 256)
    one_by_one = torch.cat([model(x[i : i + 1]) for i in range(len(x))])
    torch.testing.assert_close(model(x), one_by_one, atol=1e-5, rtol=1e-4)


@both_models
def test_every_parameter_learns(model_class: type[ECGCNN]) -> None:
    torch.manual_seed(0)
    model = model_class()
    loss = nn.functional.cross_entropy(model(torch.randn(16, 1, 256)), torch.arange(16) % 5)
    torch.autograd.backward(loss)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@both_models
def test_a_few_shapes_can_be_learned(model_class: type[ECGCNN]) -> None:
    torch.manual_seed(0)
    model = model_class()
    shapes, y = torch.randn(5, 1, 256), torch.arange(20) % 5
    x = shapes[y] + 0.1 * torch.randn(20, 1, 256)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        torch.autograd.backward(loss)
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.3 * losses[0]


@both_models
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_floating_point_dtypes(model_class: type[ECGCNN], dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = model_class().eval()
    x = torch.randn(4, 1, 256)
    expected = model(x)
    y = model.to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    tolerance = 0.05 if dtype == torch.bfloat16 else 1e-4
    assert (y.float() - expected).norm() < tolerance * expected.norm()


@both_models
def test_exported_with_any_batch_equals_eager(model_class: type[ECGCNN]) -> None:
    model = model_class().eval()
    program = torch.export.export(model, (torch.randn(2, 1, 256),), dynamic_shapes=({0: Dim("batch")},))
    exported = program.module()
    for batch in (1, 2, 7):
        x = torch.randn(batch, 1, 256)
        torch.testing.assert_close(exported(x), model(x), atol=1e-5, rtol=1e-5)


# --- wrong input -----------------------------------------------------------------------------------------------------


@both_models
@pytest.mark.parametrize("shape", [(256,), (1, 256), (2, 256, 1), (2, 2, 256), (2, 1, 255), (2, 1, 1, 256), ()])
def test_wrong_shapes_are_named(model_class: type[ECGCNN], shape: tuple[int, ...]) -> None:
    model = model_class()
    for call in (model, model.get_features):
        with pytest.raises(ValueError, match=r"\[batch, 1, 256\]") as error:
            call(torch.zeros(shape))
        assert str(list(shape)) in str(error.value)


@both_models
@pytest.mark.parametrize("dtype", [torch.int16, torch.int64, torch.bool, torch.complex64, torch.float64, torch.float16])
def test_wrong_dtypes_are_named(model_class: type[ECGCNN], dtype: torch.dtype) -> None:
    with pytest.raises(TypeError, match=f"dtype torch.float32.*got {dtype}"):
        model_class()(torch.zeros(2, 1, 256, dtype=dtype))


@both_models
@pytest.mark.parametrize("num_classes", [1, 0, -5])
def test_too_few_classes_are_named(model_class: type[ECGCNN], num_classes: int) -> None:
    with pytest.raises(ValueError, match=f"num_classes must be at least 2, got {num_classes}"):
        model_class(num_classes=num_classes)


def test_a_model_without_a_head_says_so() -> None:
    with pytest.raises(NotImplementedError):
        BeatClassifier(5)(torch.zeros(1, 1, 256))
